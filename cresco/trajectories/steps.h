// Steps: the schedules that snapshots are taken at, and the choices of --steps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace cresco::trajectories {

// Where a run of `total_steps` takes snapshots; the last step always belongs to it. `text` is
//   log2        0, 1, 2, 4, 8, ...
//   pythia      0, 1, 2, 4, ..., 512, then every 1000; or another preset of choose_steps()
//   0,10,50     a list;  0:1000:100  a range with both ends;  both may be mixed: 0:10:2,50
//   tokens:0,1e6,...   the steps that `step_at` says have seen that many tokens
std::vector<std::int64_t> snapshot_schedule(
    const std::string& text, std::int64_t total_steps,
    const std::function<std::int64_t(std::int64_t tokens)>& step_at);

// Which of the `available` steps are meant: a list, a range, or a preset (all, log2, pythia,
// pythia-32, pythia-16, olmo2-32, heldout-8). A step of a list that is missing is an Error that
// names what there is, as is one of a range or a preset; `log2` takes those of its steps that
// exist. `option` is what messages call the text.
std::vector<std::int64_t> choose_steps(const std::string& text,
                                       const std::vector<std::int64_t>& available,
                                       const std::string& where,
                                       const std::string& option = "--steps");

// The steps that a preset, a list or a range names, whatever exists; `log2` goes on to `last`.
std::vector<std::int64_t> named_steps(const std::string& text, std::int64_t last,
                                      const std::string& option = "--preset");

}  // namespace cresco::trajectories
