#include "cresco/formats/pickle.h"

#include "cresco/base/require.h"

#include <gtest/gtest.h>

namespace cresco::formats {
namespace {

using Kind = PickleValue::Kind;
using namespace std::string_literals;

std::unique_ptr<Pickle> parsed(const std::string& bytes) {
  return std::make_unique<Pickle>(InputFile("x", bytes), 0,
                                  static_cast<std::int64_t>(bytes.size()));
}

std::string error_of(const std::string& bytes) {
  try {
    parsed(bytes);
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// As Python shows it, near enough: every kind in one line of text.
std::string shown(const PickleValue& value, int depth = 0) {
  if (depth > 5) return "...";
  const auto list = [&](const auto& items) {
    std::string text;
    for (const PickleValue* item : items)
      text += (text.empty() ? "" : ", ") + shown(*item, depth + 1);
    return text;
  };
  std::string entries;
  for (const auto& [key, item] : value.entries)
    entries +=
        (entries.empty() ? "" : ", ") + shown(*key, depth + 1) + ": " + shown(*item, depth + 1);
  switch (value.kind) {
    case Kind::None:
      return "None";
    case Kind::Bool:
      return value.integer ? "True" : "False";
    case Kind::Int:
      return std::to_string(value.integer);
    case Kind::LargeInt:
      return value.text;
    case Kind::Float:
      return fmt::format("{}f", value.number);
    case Kind::String:
      return "'" + value.text + "'";
    case Kind::Bytes:
      return "b'" + value.text + "'";
    case Kind::List:
      return "[" + list(value.items) + "]";
    case Kind::Tuple:
      return "(" + list(value.items) + ")";
    case Kind::Set:
      return "set(" + list(value.items) + ")";
    case Kind::Dict:
      return "{" + entries + "}";
    case Kind::Global:
      return "<" + value.text + ">";
    case Kind::Object:
      return value.text + shown(*value.arguments, depth + 1) + "[" + list(value.items) + "]{" +
             entries + "}" + (value.state ? " state " + shown(*value.state, depth + 1) : "");
    case Kind::Storage:
      return "storage " + value.storage->key;
    case Kind::Tensor:
      return "tensor " + shape_text(value.tensor->shape);
  }
  return "";
}

std::string shown(const std::string& bytes) { return shown(parsed(bytes)->root()); }

TEST(Pickle, ReadsPlainValuesOfEveryProtocol) {
  const std::pair<std::string, std::string> cases[] = {
      {"N.", "None"},
      {"\x80\x02\x88.", "True"},
      {"\x89.", "False"},
      {"I01\n.", "True"},
      {"I-12\n.", "-12"},
      {"L123L\n.", "123"},
      {"K\xff.", "255"},
      {"M\x01\x02.", "513"},
      {"J\xfe\xff\xff\xff.", "-2"},
      {"\x8a\x00."s, "0"},
      {"\x8a\x02\x00\x80."s, "-32768"},
      {"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01."s, "0x010000000000000000"},
      {"\x8b\x01\x00\x00\x00\x7f."s, "127"},
      {"F0.5\n.", "0.5f"},
      {"Fnan\n.", "nanf"},
      {"G\x3f\xf8\x00\x00\x00\x00\x00\x00."s, "1.5f"},
      {"X\x02\x00\x00\x00hi."s, "'hi'"},
      {"T\x02\x00\x00\x00hi."s, "'hi'"},
      {"U\x02hi.", "'hi'"},
      {"\x8c\x02hi.", "'hi'"},
      {"\x8d\x02\x00\x00\x00\x00\x00\x00\x00hi."s, "'hi'"},
      {"S'a\\n\\x41\\''\n.", "'a\nA''"},
      {"V\\u00e9\xe9\\u20ac\n.", "'\xc3\xa9\xc3\xa9\xe2\x82\xac'"},
      {"C\x02hi.", "b'hi'"},
      {"B\x02\x00\x00\x00hi."s, "b'hi'"},
      {"\x8e\x02\x00\x00\x00\x00\x00\x00\x00hi."s, "b'hi'"},
      {"\x96\x02\x00\x00\x00\x00\x00\x00\x00hi."s, "b'hi'"},
      {").", "()"},
      {"K\x01\x85.", "(1)"},
      {"K\x01K\x02\x86.", "(1, 2)"},
      {"K\x01K\x02K\x03\x87.", "(1, 2, 3)"},
      {"(K\x01K\x02t.", "(1, 2)"},
      {"].", "[]"},
      {"(K\x01K\x02l.", "[1, 2]"},
      {"]K\x01"
       "a(K\x02K\x03"
       "e.",
       "[1, 2, 3]"},
      {"}K\x01K\x02s(K\x03K\x04u.", "{1: 2, 3: 4}"},
      {"(K\x01K\x02"
       "d.",
       "{1: 2}"},
      {"\x8f(K\x01\x90.", "set(1)"},
      {"(K\x01\x91.", "set(1)"},
      {"K\x01K\x02"
       "0.",
       "1"},
      {"K\x01(0.", "1"},
      {"K\x01(K\x02"
       "1.",
       "1"},
      {"K\x01"
       "2\x86.",
       "(1, 1)"},
      {"]q\x05"
       "0h\x05.",
       "[]"},
      {"]r\x05\x00\x00\x00"
       "0j\x05\x00\x00\x00."s,
       "[]"},
      {"]p5\n0g5\n.", "[]"},
      {"\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94"
       "0h\x00."s,
       "[]"},
  };
  for (const auto& [bytes, text] : cases) EXPECT_EQ(shown(bytes), text);
}

TEST(Pickle, KnowsPythonsOwnContainers) {
  EXPECT_EQ(shown("ccollections\nOrderedDict\n)R(K\x01K\x02u}K\x03K\x04sb."), "{1: 2}");
  EXPECT_EQ(shown("ccollections\nOrderedDict\n](K\x01K\x02\x86"
                  "e\x85R."),
            "{1: 2}");
  EXPECT_EQ(shown("c__builtin__\nset\n](K\x01K\x02"
                  "e\x85R."),
            "set(1, 2)");
  EXPECT_EQ(shown("cbuiltins\nfrozenset\n)R."), "set()");
  EXPECT_EQ(shown("c_codecs\nencode\nX\x04\x00\x00\x00\xc3\xbf"
                  "ab\x85R."s),
            "b'\xff"
            "ab'");
  EXPECT_EQ(shown("cbuiltins\nbytearray\nC\x01x\x85R."), "b'x'");
  EXPECT_EQ(shown("ctorch\nSize\nK\x02K\x03\x86\x85R."), "(2, 3)");
  EXPECT_EQ(shown("ctorch\ndevice\nU\x04"
                  "cudaK\x01\x86R."),
            "'cuda:1'");
  EXPECT_EQ(shown("ctorch\ndevice\nU\x03"
                  "cpu\x85R."),
            "'cpu'");
  EXPECT_EQ(shown("ctorch\nbfloat16\n."), "<torch.bfloat16>");
}

TEST(Pickle, CallsNothing) {
  const auto dangerous = parsed("cos\nsystem\n(S'touch /tmp/cresco_was_here'\ntR.");
  EXPECT_EQ(shown(dangerous->root()), "os.system('touch /tmp/cresco_was_here')[]{}");
  EXPECT_EQ(dangerous->unknown_globals(), std::vector<std::string>{"os.system"});
  EXPECT_FALSE(std::filesystem::exists("/tmp/cresco_was_here"));
  EXPECT_EQ(shown("\x8c\x02os\x8c\x06system\x93)R."), "os.system()[]{}");
  EXPECT_EQ(shown("(S'x'\nios\nsystem\n."), "os.system('x')[]{}");
  EXPECT_EQ(shown("(cos\nsystem\nS'x'\no."), "os.system('x')[]{}");
  EXPECT_EQ(shown("cos\nsystem\n)}K\x01K\x02s\x92."), "os.system()[]{} state {1: 2}");
  // What is built on top of a placeholder stays with it.
  EXPECT_EQ(shown("ca\nb\n)\x81K\x01"
                  "aK\x02K\x03sK\x04"
                  "b."),
            "a.b()[1]{2: 3} state 4");
  EXPECT_EQ(shown("ca\nb\n)R)R."), "a.b()[]{}");
  // A name that we know, with arguments that it does not take.
  const auto odd = parsed("ctorch\nSize\nK\x01\x85R.");
  EXPECT_EQ(odd->root().kind, Kind::Object);
  EXPECT_EQ(odd->unknown_globals(), std::vector<std::string>{"torch.Size"});
}

std::string storage_of(const std::string& type, const std::string& more = "",
                       const std::string& module = "torch") {
  return "(X\x07\x00\x00\x00storagec"s + module + "\n" + type +
         "\nU\x01"
         "0U\x03"
         "cpuK\x06" +
         more + "tQ";
}

TEST(Pickle, FindsTensors) {
  const std::string v2 = "ctorch._utils\n_rebuild_tensor_v2\n(",
                    rest = "K\x01K\x02K\x02\x86K\x02K\x01\x86\x89N";
  const auto pickle = parsed(v2 + storage_of("FloatStorage") + rest + "tR.");
  const PickledTensor& tensor = *pickle->root().tensor;
  EXPECT_EQ(tensor.dtype, DType::F32);
  EXPECT_EQ(tensor.offset, 1);
  EXPECT_EQ(tensor.shape, (std::vector<std::int64_t>{2, 2}));
  EXPECT_EQ(tensor.strides, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(tensor.storage->num_elements, 6);
  EXPECT_EQ(pickle->storages().size(), 1u);
  EXPECT_TRUE(pickle->unknown_globals().empty());

  const std::string v3 = "ctorch._utils\n_rebuild_tensor_v3\n(" +
                         storage_of("UntypedStorage", "", "torch.storage") + rest;
  EXPECT_EQ(parsed(v3 + "ctorch\nuint16\ntR.")->root().tensor->dtype, DType::U16);
  EXPECT_EQ(parsed(v3 + "ctorch\ncomplex128\ntR.")->root().text, "torch.complex128");
  EXPECT_EQ(parsed("ctorch._utils\n_rebuild_parameter\n(" + v2 + storage_of("FloatStorage") + rest +
                   "tR\x88NtR.")
                ->root()
                .kind,
            Kind::Tensor);
  EXPECT_EQ(parsed("ctorch._tensor\n_rebuild_from_type_v2\n(ctorch._utils\n_rebuild_tensor_"
                   "v2\nctorch\nTensor\n(" +
                   storage_of("FloatStorage") + rest + "t}tR.")
                ->root()
                .kind,
            Kind::Tensor);
  EXPECT_EQ(parsed(v2 + storage_of("QInt8Storage") + rest + "tR.")->root().text,
            "torch.QInt8Storage");
  EXPECT_EQ(parsed(v2 + storage_of("FloatStorage") + rest + "}U\x03neg\x88stR.")->root().kind,
            Kind::Object);
  EXPECT_EQ(parsed(v2 + storage_of("FloatStorage", "U\x01kK\x02K\x03\x87") + rest + "tR.")
                ->root()
                .tensor->storage->view_begin,
            2);
  EXPECT_EQ(parsed("(U\x06moduleca\nB\nNNtQ.")->root().text, "a.B");

  const auto refused = [&](const std::string& tensor_text) {
    return error_of(v2 + tensor_text + "tR.") != "no error";
  };
  EXPECT_TRUE(refused(storage_of("FloatStorage") + "K\x01"));
  EXPECT_TRUE(refused("K\x01" + rest));
  EXPECT_TRUE(refused(storage_of("FloatStorage") + "NK\x02\x85K\x01\x85\x89N"));
  EXPECT_TRUE(refused(storage_of("FloatStorage") + "K\x01K\x02K\x01\x85\x89N"));
  EXPECT_TRUE(refused(storage_of("FloatStorage") + "K\x01K\x02\x85)\x89N"));
  EXPECT_TRUE(refused(storage_of("FloatStorage") + "J\xff\xff\xff\xffK\x02\x85K\x01\x85\x89N"));
  EXPECT_NE(error_of("NQ."), "no error");
  EXPECT_NE(error_of("U\x07storage\x85Q."), "no error");
  EXPECT_NE(error_of("ctorch._utils\n_rebuild_parameter\n)R."), "no error");
}

TEST(Pickle, RefusesWhatIsNoPickle) {
  for (const std::string& bytes : {""s,
                                   "."s,
                                   "N"s,
                                   "NN."s,
                                   "(N."s,
                                   "a."s,
                                   "]a."s,
                                   "(]a."s,
                                   "t."s,
                                   "0."s,
                                   "h\x01."s,
                                   "gx\n."s,
                                   "j\xff\xff\xff\xff."s,
                                   "p-1\n."s,
                                   "\x80\x06."s,
                                   "}]Ns."s,
                                   "}(Nu."s,
                                   "}N."s,
                                   "Ix\n."s,
                                   "Fx\n."s,
                                   "S'a\n."s,
                                   "S'\\q'\n."s,
                                   "V\\u12\n."s,
                                   "X\xff\xff\xff\xff"
                                   "a."s,
                                   "\x8d\xff\xff\xff\xff\xff\xff\xff\xff"
                                   "a."s,
                                   "NR."s,
                                   "N)R."s,
                                   "NN\x93."s,
                                   "ca\nb\nNR."s,
                                   "NK\x01"
                                   "a."s,
                                   "NK\x01K\x02s."s,
                                   "\x8f(]\x90."s,
                                   "N(K\x01\x90."s,
                                   "(o."s,
                                   "\x82\x01."s,
                                   "\x97."s,
                                   "}(K\x01K\x02K\x01K\x02u."s,
                                   "}(U\x01"
                                   "aNU\x01"
                                   "aNu."s,
                                   "\x8b\xff\xff\xff\x7f."s,
                                   "ccollections\nOrderedDict\nN\x85R."s,
                                   "ccollections\nOrderedDict\n]Na\x85R."s,
                                   "c_codecs\nencode\nU\x03\xe2\x82\xac\x85R."s,
                                   "c" + std::string(2000, 'a') + "\nb\n."})
    EXPECT_NE(error_of(bytes), "no error") << bytes;
  EXPECT_NE(error_of(std::string(20'000, '(') + "."), "no error");
  EXPECT_NE(error_of("S'" + std::string(2 << 20, 'a')), "no error");
  std::string key = "}X\xff\xff\x00\x00"s + std::string(65535, 'a') + "Ns.";
  EXPECT_NE(error_of(key), "no error");
}

TEST(Pickle, MemoryStaysInProportion) {
  // A list of a million, appended to itself by every other instruction.
  std::string bomb = "](";
  for (int i = 0; i < 1000; ++i) bomb += "N";
  bomb +=
      "e\x94"
      "0";
  for (int i = 0; i < 400'000; ++i) bomb += "c__builtin__\nset\nh\x00\x85R"s;
  EXPECT_NE(error_of(bomb + ".").find("too many for its size"), std::string::npos);
  // Lists of lists, 2^60 in all, and one that holds itself: small, because nothing is unfolded.
  std::string shared = "]\x94";
  for (int i = 1; i <= 60; ++i) shared += "0]\x94(h"s + char(i - 1) + "h" + char(i - 1) + "e";
  EXPECT_LT(parsed(shared + ".")->size(), 300);
  EXPECT_EQ(shown("]q\x00h\x00"
                  "a."s),
            "[[[[[[...]]]]]]");
}

TEST(Pickle, SurvivesEveryDamage) {
  const std::string good =
      "\x80\x02}q\x00(X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n("s +
      storage_of("FloatStorage") +
      "K\x01K\x02K\x02\x86K\x02K\x01\x86\x89"
      "ccollections\nOrderedDict\n)RtRU\x01nK\x05u.";
  EXPECT_EQ(error_of(good), "no error");
  for (std::size_t n = 0; n < good.size(); ++n) EXPECT_NE(error_of(good.substr(0, n)), "no error");
  for (std::size_t at = 0; at < good.size(); ++at)
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      error_of(bad);
    }
}

}  // namespace
}  // namespace cresco::formats
