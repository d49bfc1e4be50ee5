#include "cresco/artifacts/manifest.h"

#include "cresco/base/require.h"
#include "cresco/base/temporary_folder.h"

#include <gtest/gtest.h>

namespace cresco::artifacts {
namespace {

TEST(Manifest, NamesItsInputsByContent) {
  const TemporaryFolder folder;
  write_file(folder / "in", "abc");
  write_file(folder / "out.bin", "x");
  write_manifest(folder / "out.bin",
                 {.verb = "extract", .command = {"cresco", "extract"}, .inputs = {folder / "in"}});
  const Json manifest = read_manifest(folder / "out.bin");
  EXPECT_EQ(manifest["verb"], "extract");
  EXPECT_EQ(manifest["inputs"][0]["bytes"], 3);
  EXPECT_EQ(manifest["inputs"][0]["sha256"],
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_TRUE(read_manifest(folder / "in").is_null());
}

}  // namespace
}  // namespace cresco::artifacts
