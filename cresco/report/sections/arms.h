// Arms of an experiment, each trained with one or several seeds: which lines belong together.
#pragma once

#include "cresco/report/report.h"

#include <string>
#include <vector>

namespace cresco::report {

// One training: its arm and seed, and what else it can be called by.
struct Trained {
  std::string arm, seed, own_name;
};

// How one training is drawn among others.
struct Look {
  std::string arm;
  std::string name;       // the arm; with the seed where the arm has several
  int color = -1;         // one for each arm
  bool repeated = false;  // not the first of its arm

  void apply(Series& series) const;
};

// In the order of `trained`. Trainings of one arm are its seeds only when their seeds differ; else
// each is an arm of its own, under its own name. `palette` holds the arms that have a colour
// already, and gets the new ones.
std::vector<Look> looks_of(const std::vector<Trained>& trained, std::vector<std::string>& palette);
std::vector<Look> looks_of(const std::vector<Trained>& trained);

// How the looks are to be read: one colour for each arm, and thin lines where there are seeds.
std::string legend_of(const std::vector<Look>& looks);

}  // namespace cresco::report
