# cmake -DASSETS=DIR -DOUTPUT=FILE.cpp -P embed_assets.cmake
# Writes the page's files as C++ strings: page.css becomes page_css().
set(code "#include \"cresco/report/assets.h\"\n\nnamespace cresco::report::assets {\n")
foreach(file page.html page.css page.js)
  file(READ "${ASSETS}/${file}" text)
  string(REPLACE "." "_" name "${file}")
  string(APPEND code "\nstd::string_view ${name}() { return R\"cresco_asset(${text})cresco_asset\"; }\n")
endforeach()
string(APPEND code "\n}  // namespace cresco::report::assets\n")
file(WRITE "${OUTPUT}" "${code}")
