// The HTML of each kind of block.
#pragma once

#include "cresco/report/markup.h"
#include "cresco/report/report.h"

#include <string>

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
void write_table(Markup& out, const artifacts::Table& table);
// "Data: N rows of FILE", folded: a table when short, CSV text when long.
void write_data(Markup& out, const artifacts::Table& table, const std::string& source);
// Read by the page's script.
void write_json(Markup& out, const Json& value);

}  // namespace cresco::report::html
