// Decompresses a zlib stream (RFC 1950 and 1951) into `size` bytes, for browsers without
// DecompressionStream. Codes are decoded a bit at a time: short, and fast enough for a fallback.
function inflate(packed, size) {
  const out = new Uint8Array(size);
  let at = 2, end = 0, hold = 0, held = 0;  // past the two bytes of zlib's header

  const bits = (count) => {
    while (held < count) {
      hold |= packed[at++] << held;
      held += 8;
    }
    const value = hold & (1 << count) - 1;
    hold >>>= count;
    held -= count;
    return value;
  };

  // Canonical Huffman codes: how many there are of each length, and the symbols in order of codes.
  const table = (lengths) => {
    const counts = new Uint16Array(16), next = new Uint16Array(16), symbols = new Uint16Array(lengths.length);
    for (const length of lengths) ++counts[length];
    counts[0] = 0;
    for (let i = 1; i < 16; ++i) next[i] = next[i - 1] + counts[i - 1];
    lengths.forEach((length, symbol) => { if (length) symbols[next[length]++] = symbol; });
    return {counts, symbols};
  };
  const symbol = ({counts, symbols}) => {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; ++length) {
      code |= bits(1);
      if (code - first < counts[length]) return symbols[index + code - first];
      index += counts[length];
      first = (first + counts[length]) << 1;
      code <<= 1;
    }
    throw new Error('a damaged block of data');
  };

  const lengthBase = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
  const distanceBase = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
  const lengthBits = (i) => i < 8 || i === 28 ? 0 : (i >> 2) - 1;
  const distanceBits = (i) => i < 4 ? 0 : (i >> 1) - 1;
  const range = (count, length) => new Array(count).fill(length);
  const fixed = [table([...range(144, 8), ...range(112, 9), ...range(24, 7), ...range(8, 8)]), table(range(30, 5))];

  const dynamic = () => {
    const numLiterals = bits(5) + 257, numDistances = bits(5) + 1, numCodes = bits(4) + 4;
    const order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15], codes = range(19, 0);
    for (let i = 0; i < numCodes; ++i) codes[order[i]] = bits(3);
    const code = table(codes), lengths = [];
    while (lengths.length < numLiterals + numDistances) {
      const value = symbol(code);
      if (value < 16) lengths.push(value);
      else if (value === 16) lengths.push(...range(3 + bits(2), lengths[lengths.length - 1]));
      else lengths.push(...range(value === 17 ? 3 + bits(3) : 11 + bits(7), 0));
    }
    return [table(lengths.slice(0, numLiterals)), table(lengths.slice(numLiterals))];
  };

  for (let last = 0; !last;) {
    last = bits(1);
    const kind = bits(2);
    if (kind === 0) {  // stored
      hold = held = 0;
      const length = packed[at] | packed[at + 1] << 8;
      out.set(packed.subarray(at + 4, at + 4 + length), end);
      at += 4 + length;
      end += length;
      continue;
    }
    const [literals, distances] = kind === 1 ? fixed : dynamic();
    for (let value = symbol(literals); value !== 256; value = symbol(literals)) {
      if (value < 256) {
        out[end++] = value;
        continue;
      }
      const length = lengthBase[value - 257] + bits(lengthBits(value - 257)), code = symbol(distances);
      const distance = distanceBase[code] + bits(distanceBits(code));
      for (let i = 0; i < length; ++i, ++end) out[end] = out[end - distance];
    }
  }
  return out;
}
