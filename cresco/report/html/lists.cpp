// Blocks that are text: numbers of the summary, tables, passages, provenance.
#include "cresco/report/html/blocks.h"

#include "cresco/base/json.h"
#include "cresco/base/strings.h"
#include "cresco/report/escape.h"
#include "cresco/report/numbers.h"

#include <fmt/format.h>

#include <algorithm>

namespace cresco::report::html {
namespace {

std::string text_of(const Json& object, const char* key) {
  if (!object.is_object() || !object.contains(key)) return "";
  const Json& value = object[key];
  return value.is_string() ? value.get<std::string>() : to_line(value);
}

// The command as it could be typed again.
std::string command_of(const Json& manifest) {
  if (!manifest.contains("command") || !manifest["command"].is_array()) return "";
  std::vector<std::string> words;
  for (const Json& word : manifest["command"]) {
    std::string text = word.is_string() ? word.get<std::string>() : to_line(word);
    if (text.empty() || text.find_first_of(" \t\n\"'\\$`*?<>|&;(){}[]#~!") != std::string::npos) {
      std::string quoted = "'";
      for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
      text = quoted + "'";
    }
    words.push_back(std::move(text));
  }
  return fmt::format("{}", fmt::join(words, " "));
}

// Lines are kept as lines; everything else is escaped.
void write_pre(Markup& out, const std::string& text) {
  out.open("pre", {{"tabindex", "0"}});
  for (const std::string& line : split(text, '\n')) out.text(line).line_end();
  out.close();
}

void write_pair(Markup& out, const char* name, const std::string& value) {
  if (value.empty()) return;
  out.element("dt", name).open("dd").element("bdi", value).close();
}

artifacts::Table inputs_of(const Json& manifest) {
  artifacts::Table table({"input", "size", "SHA-256"});
  if (!manifest.contains("inputs") || !manifest["inputs"].is_array()) return table;
  for (const Json& input : manifest["inputs"]) {
    const bool sized = input.is_object() && input.contains("bytes") && input["bytes"].is_number();
    table.add(text_of(input, "path"), sized ? human_bytes(input["bytes"].get<double>()) : "",
              text_of(input, "sha256"));
  }
  return table;
}

void write_origin(Markup& out, const Origin& origin) {
  const Json& manifest = origin.manifest;
  out.open("details", {{"class", "origin"}, {"data-origin", origin.name}});
  out.open("summary").element("bdi", {{"class", "name"}}, origin.name);
  out.element("code", command_of(manifest)).close();
  out.open("dl");
  write_pair(out, "path", origin.path);
  write_pair(out, "version", text_of(manifest, "version"));
  write_pair(out, "written", text_of(manifest, "written"));
  write_pair(
      out, "ran on",
      fmt::format("{}, {}, {}, {} threads", text_of(manifest, "host"), text_of(manifest, "device"),
                  text_of(manifest, "dtype"), text_of(manifest, "threads")));
  write_pair(out, "settings SHA-256", text_of(manifest, "settings_sha256"));
  out.close();
  if (const artifacts::Table inputs = inputs_of(manifest); inputs.num_rows() > 0)
    write_table(out, inputs);
  if (manifest.contains("settings")) {
    out.open("details").element("summary", "Settings");
    write_pre(out, to_text(manifest["settings"]));
    out.close();
  }
  if (!origin.recipe.empty()) {
    out.open("details").element("summary", "Recipe");
    write_pre(out, origin.recipe);
    out.close();
  }
  out.close().line_end();
}

}  // namespace

void write(Markup& out, const Facts& facts) {
  out.open("dl", {{"class", "facts"}});
  for (const Fact& fact : facts.facts) {
    out.open("div").element("dt", fact.label).element("dd", {{"class", "value"}}, fact.value);
    out.open("dd", {{"class", "note"}});
    write_name(out, fact.note);
    out.close().close();
  }
  out.close().line_end();
}

void write(Markup& out, const DataTable& table) {
  out.open("figure", {{"id", "figure-" + table.id},
                      {"class", table.half ? "half table" : "table"},
                      {"data-figure", table.id},
                      {"data-source", table.source},
                      {"data-rows", table.table.num_rows()}});
  write_caption(out, table.title, table.caption);
  constexpr std::size_t kFewRows = 6;
  if (!table.half && table.table.columns().size() == 2 && table.table.num_rows() > kFewRows)
    write_table_in_two(out, table.table);
  else
    write_table(out, table.table);
  out.close().line_end();
}

void write(Markup& out, const Passages& passages) {
  out.open("figure", {{"id", "figure-" + passages.id},
                      {"class", "passages"},
                      {"data-figure", passages.id},
                      {"data-source", passages.source}});
  write_caption(out, passages.title, "");
  out.open("ol").line_end();
  for (const Passage& passage : passages.passages) {
    out.open("li", {{"class", "mark"}});
    out.element("span", {{"class", "step"}},
                fmt::format("step {}", whole_number(double(passage.step))));
    out.open("p").open("bdi").element("strong", passage.prompt).text(passage.continuation);
    out.close().close().close().line_end();
  }
  out.close().close().line_end();
}

void write(Markup& out, const Provenance& provenance) {
  out.open("div", {{"class", "provenance"}}).element("h3", "What made these numbers").line_end();
  for (const Origin& origin : provenance.origins) write_origin(out, origin);
  out.close().line_end();
}

}  // namespace cresco::report::html
