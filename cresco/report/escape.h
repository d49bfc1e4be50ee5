// What keeps text from being anything else than text. Tokens are arbitrary bytes; so are titles and
// paths.
#pragma once

#include "cresco/base/fields.h"

#include <string>
#include <string_view>

namespace cresco::report {

// Valid UTF-8 on one line that looks like what it is: control characters, bytes that are not UTF-8
// and characters that are invisible or turn the direction of writing become \n, \x1b, \xff, \u202e.
std::string visible_text(std::string_view bytes);

// visible_text cut to `most` characters, with an ellipsis where it was longer.
std::string shortened(std::string_view bytes, std::size_t most);
std::size_t num_characters(std::string_view utf8);

// For HTML text and quoted attributes: visible_text with &, <, >, " and ' as entities.
std::string escape_html(std::string_view bytes);

// For <script type="application/json">: no sequence of it ends the element or opens a comment.
std::string escape_script_json(const Json& value);

}  // namespace cresco::report
