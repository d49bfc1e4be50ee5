#include "cresco/report/render.h"

#include "cresco/base/hash.h"
#include "cresco/report/assets.h"
#include "cresco/report/color.h"
#include "cresco/report/compact.h"
#include "cresco/report/escape.h"
#include "cresco/report/html/blocks.h"

#include <fmt/format.h>

#include <cassert>
#include <map>

namespace cresco::report {
namespace {

// The frame with each {{name}} replaced, in one pass: what is put in is not searched again.
std::string fill(std::string_view frame, const std::map<std::string, std::string>& parts) {
  std::string out;
  for (;;) {
    const std::size_t begin = frame.find("{{");
    out += frame.substr(0, begin);
    if (begin == std::string_view::npos) return out;
    const std::size_t end = frame.find("}}", begin);
    assert(end != std::string_view::npos);
    out += parts.at(std::string(frame.substr(begin + 2, end - begin - 2)));
    frame.remove_prefix(end + 2);
  }
}

// Names the script by its hash, so that the browser runs it and nothing else.
std::string script_hash(std::string_view script) {
  const std::string hex = sha256_hex(as_bytes(script));
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return "sha256-" + base64(bytes);
}

// The files of assets/ as one script, in a function of its own: the page gets no global names.
std::string script() {
  return fmt::format("'use strict';\n(() => {{\n{}{}{}}})();\n", assets::inflate_js(),
                     assets::atlas_js(), assets::page_js());
}

// The heat maps' ramp as a CSS gradient, for their legends.
std::string ramp_gradient() {
  const std::vector<Color> ramp = sequential_ramp();
  std::vector<std::string> stops;
  for (std::size_t i = 0; i < ramp.size(); i += 15)
    stops.push_back(fmt::format("rgb({},{},{})", ramp[i][0], ramp[i][1], ramp[i][2]));
  return fmt::format("linear-gradient(90deg,{})", fmt::join(stops, ","));
}

void write_contents(Markup& out, const Report& report) {
  for (const Section& section : report.sections)
    out.open("li").element("a", {{"href", "#" + section.id}}, section.title).close().line_end();
}

void write_section(Markup& out, const Section& section) {
  out.open("section", {{"id", section.id}, {"data-section", section.id}});
  out.element("h2", section.title).line_end();
  if (!section.text.empty()) out.element("p", {{"class", "lead"}}, section.text).line_end();
  out.open("div", {{"class", "blocks"}}).line_end();
  for (const Block& block : section.blocks)
    std::visit([&](const auto& one) { html::write(out, one); }, block);
  out.close().close().line_end();
}

}  // namespace

std::string render_html(const Report& report) {
  const std::string script = report::script();
  Markup contents, body;
  write_contents(contents, report);
  for (const Section& section : report.sections) write_section(body, section);
  if (!report.absent.empty())
    body.element("p", {{"class", "absent"}},
                 fmt::format("Not in this report, because their tables are not there: {}.",
                             fmt::join(report.absent, "; ")));
  return fill(assets::page_html(), {{"title", escape_html(report.title)},
                                    {"subtitle", escape_html(report.subtitle)},
                                    {"version", escape_html(report.version)},
                                    {"script_hash", script_hash(script)},
                                    {"style", std::string(assets::page_css())},
                                    {"ramp", ramp_gradient()},
                                    {"contents", contents.str()},
                                    {"body", body.str()},
                                    {"script", script}});
}

}  // namespace cresco::report
