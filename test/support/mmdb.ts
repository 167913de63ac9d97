import ipaddr from "ipaddr.js";

/** A network, as `203.0.113.0/24`, and the country that its addresses are in. */
type Entry = [network: string, country: string];

/** A node of the tree has a way for each bit; a leaf is where an entry lies in the data. */
type Tree = { ways: [Way, Way] };
type Way = Tree | { at: number } | undefined;

const IPV4_BITS_IN_IPV6 = 96;
const SEPARATOR = Buffer.alloc(16);
const MARKER = Buffer.from("\xab\xcd\xefMaxMind.com", "latin1");
const RECORD_BITS = 24;

/** A file of countries in the MaxMind DB format 2.0: search tree, data, metadata. */
export function makeMmdb(entries: Entry[], { ipVersion = 6 }: { ipVersion?: 4 | 6 } = {}): Buffer {
  const root: Tree = { ways: [undefined, undefined] };
  const data: Buffer[] = [];
  let size = 0;
  for (const [network, country] of entries) {
    insert(root, bitsOf(network, ipVersion), { at: size });
    const record = map({ country: map({ iso_code: text(country) }) });
    data.push(record);
    size += record.length;
  }

  const nodes = number(root);
  const records = [...nodes.keys()].flatMap(({ ways }) =>
    ways.map((way) => {
      const value =
        way === undefined ? nodes.size : "at" in way ? nodes.size + SEPARATOR.length + way.at : nodes.get(way);
      return unsigned(value ?? 0, RECORD_BITS / 8);
    }),
  );
  const metadata = map({
    binary_format_major_version: number16(2),
    binary_format_minor_version: number16(0),
    build_epoch: extended(9, unsigned(1_767_225_600, 8)),
    database_type: text("Test-Country"),
    description: map({}),
    ip_version: number16(ipVersion),
    languages: extended(11, Buffer.alloc(0)),
    node_count: Buffer.concat([control(6, 4), unsigned(nodes.size, 4)]),
    record_size: number16(RECORD_BITS),
  });
  return Buffer.concat([...records, SEPARATOR, ...data, MARKER, metadata]);
}

function bitsOf(network: string, ipVersion: 4 | 6): number[] {
  const [address, length] = ipaddr.parseCIDR(network);
  const bits = address.toByteArray().flatMap((byte) => Array.from({ length: 8 }, (_, i) => (byte >> (7 - i)) & 1));
  const isPadded = ipVersion === 6 && address.kind() === "ipv4";
  return [...(isPadded ? Array.from({ length: IPV4_BITS_IN_IPV6 }, () => 0) : []), ...bits.slice(0, length)];
}

function insert(root: Tree, bits: number[], leaf: { at: number }) {
  let node = root;
  for (const bit of bits.slice(0, -1)) {
    const way = node.ways[bit as 0 | 1];
    const next: Tree = way && "ways" in way ? way : { ways: [undefined, undefined] };
    node.ways[bit as 0 | 1] = next;
    node = next;
  }
  node.ways[bits.at(-1) as 0 | 1] = leaf;
}

/** The nodes in the order in which they are written, with their numbers. */
function number(root: Tree): Map<Tree, number> {
  const nodes = new Map<Tree, number>([[root, 0]]);
  for (const { ways } of nodes.keys()) {
    for (const way of ways) if (way && "ways" in way) nodes.set(way, nodes.size);
  }
  return nodes;
}

// Values: a byte with type and size, then the value; a type above 7 has a byte of its own

function unsigned(value: number, bytes: number): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64BE(BigInt(value));
  return buffer.subarray(8 - bytes);
}

const control = (type: number, size: number) =>
  size < 29 ? Buffer.from([(type << 5) | size]) : Buffer.from([(type << 5) | 29, size - 29]);

const extended = (type: number, value: Buffer) => Buffer.concat([Buffer.from([value.length, type - 7]), value]);

const number16 = (value: number) => Buffer.concat([control(5, 2), unsigned(value, 2)]);

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([control(2, bytes.length), bytes]);
}

const map = (fields: Record<string, Buffer>): Buffer =>
  Buffer.concat([
    control(7, Object.keys(fields).length),
    ...Object.entries(fields).flatMap(([name, value]) => [text(name), value]),
  ]);
