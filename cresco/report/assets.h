// The files of assets/, embedded when the library is built.
#pragma once

#include <string_view>

namespace cresco::report::assets {

std::string_view page_html();
std::string_view page_css();
std::string_view page_js();
std::string_view atlas_js();
std::string_view inflate_js();

}  // namespace cresco::report::assets
