// Small functions of text that several folders need.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cresco {

std::vector<std::string> split(std::string_view text, char separator);  // "a,b" -> a, b; "" -> none
std::string_view trim(std::string_view text);  // ASCII white space at both ends

// The whole text as a number; Error that begins with `what` otherwise.
std::int64_t parse_int(std::string_view text, std::string_view what);
double parse_double(std::string_view text, std::string_view what);

// The known name with the fewest edits to `name`, or "" when none comes near.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);
// " (did you mean 'lr'?)", or "" when nothing comes near.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);

std::string join(const std::vector<std::string>& parts, std::string_view separator);
// "0, 1, 2, ... 512 (16 in all)" when there are many.
std::string list_steps(const std::vector<std::int64_t>& steps);

std::string human_bytes(double bytes);       // 11.2 GiB
std::string human_count(double count);       // 498k
std::string human_duration(double seconds);  // 00:06:12

// As a word of a shell command: quoted when it has to be.
std::string shell_quoted(std::string_view word);

// One line, printable: control characters and bytes that are not UTF-8 become \n, \t, \x1b ...
std::string escape_for_terminal(std::string_view bytes);
// The length in bytes of the UTF-8 sequence at the start of `text`; 0 when it is not valid there.
std::size_t utf8_length(std::string_view text);

}  // namespace cresco
