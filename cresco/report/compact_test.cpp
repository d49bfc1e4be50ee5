#include "cresco/report/compact.h"

#include <gtest/gtest.h>
#include <zlib.h>

namespace cresco::report {
namespace {

TEST(Base64, AgreesWithTheStandard) {  // RFC 4648, section 10
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe\xfd"), "//79");
}

TEST(Compressed, IsAZlibStreamOfTheSameBytes) {
  for (const std::string& bytes :
       {std::string(), std::string("\0\xff", 2), std::string(100000, 'x')}) {
    const std::string packed = compressed(bytes);
    std::string out(bytes.size() + 1, '?');
    auto size = static_cast<uLongf>(out.size());
    ASSERT_EQ(uncompress(reinterpret_cast<Bytef*>(out.data()), &size,
                         reinterpret_cast<const Bytef*>(packed.data()),
                         static_cast<uLong>(packed.size())),
              Z_OK);
    EXPECT_EQ(out.substr(0, size), bytes);
  }
  EXPECT_LT(compressed(std::string(100000, 'x')).size(), 1000u);
}

}  // namespace
}  // namespace cresco::report
