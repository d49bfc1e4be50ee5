# cmake -DFOLDER=DIR -DFUNCTION=n::f -DHEADER=h -DOUTPUT=FILE.cpp -P embed_folder.cmake
# Writes the YAML files below a folder as one function f() that returns {path without .yaml, text}, in the order of paths.
# HEADER declares it.
file(GLOB_RECURSE files RELATIVE "${FOLDER}" "${FOLDER}/*.yaml")
list(SORT files)
set(code "#include \"${HEADER}\"\n\nstd::vector<std::pair<std::string_view, std::string_view>> ${FUNCTION}() {\n  return {\n")
foreach(file IN LISTS files)
  file(READ "${FOLDER}/${file}" text)
  string(REGEX REPLACE "\\.yaml$" "" name "${file}")
  string(APPEND code "      {\"${name}\", R\"cresco_text(${text})cresco_text\"},\n")
endforeach()
string(APPEND code "  };\n}\n")
file(WRITE "${OUTPUT}" "${code}")
