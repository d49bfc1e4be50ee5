// The HTML of each kind of block.
#pragma once

#include "cresco/report/markup.h"
#include "cresco/report/report.h"

#include <string>
#include <string_view>

namespace cresco::report::html {

void write(Markup& out, const Facts& facts);
void write(Markup& out, const Chart& chart);
void write(Markup& out, const HeatMap& map);
void write(Markup& out, const DataTable& table);
void write(Markup& out, const Passages& passages);
void write(Markup& out, const FeatureAtlas& atlas);
void write(Markup& out, const Provenance& provenance);

// What blocks share.
void write_caption(Markup& out, const std::string& title, const std::string& caption);
// Text that may be broken after an underscore: "explained_variance_pooled" is one word to a
// browser.
void write_name(Markup& out, std::string_view text);
void write_table(Markup& out, const artifacts::Table& table);
// The first half of the rows beside the second.
void write_table_in_two(Markup& out, const artifacts::Table& table);
// "Data: N rows of FILE", folded: a table when short, CSV text when long.
void write_data(Markup& out, const artifacts::Table& table, const std::string& source);
// Read by the page's script.
void write_json(Markup& out, const Json& value);

}  // namespace cresco::report::html
