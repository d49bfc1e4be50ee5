# cmake -DFILES=a;b -DNAMES=x;y -DNAMESPACE=n -DHEADER=h -DOUTPUT=FILE.cpp -P embed_text.cmake
# Writes text files as C++ functions: x() returns the text of a. HEADER declares them.
set(code "#include \"${HEADER}\"\n\nnamespace ${NAMESPACE} {\n")
foreach(file name IN ZIP_LISTS FILES NAMES)
  file(READ "${file}" text)
  string(APPEND code "\nstd::string_view ${name}() { return R\"cresco_text(${text})cresco_text\"; }\n")
endforeach()
string(APPEND code "\n}  // namespace ${NAMESPACE}\n")
file(WRITE "${OUTPUT}" "${code}")
