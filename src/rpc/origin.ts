import { isIP } from "node:net";
import { type ContextValues, createContextKey, type Interceptor } from "@connectrpc/connect";
import ipaddr from "ipaddr.js";
import { LRUCache } from "lru-cache";

/** A single address, or the addresses of a network. */
export type Network = ReturnType<typeof ipaddr.parseCIDR>;

/** From where a call comes, as far as the proxies that are trusted tell it. */
export interface Origin {
  /** The client's IP address; empty when the connection is gone already. */
  ip: string;
  /** Whether a trusted proxy passed the call on, so that what it sets may be believed. */
  isProxied: boolean;
}

const PEERS_MAX = 10_000;
/** What one household or one machine gets of IPv6: whoever has an address there has all of them. */
const IPV6_NETWORK_BITS = 64;

const NOWHERE: Origin = { ip: "", isProxied: false };
const peerKey = createContextKey("", { description: "peer" });
const originKey = createContextKey(NOWHERE, { description: "origin" });

/** Notes the IP address at the other end of the connection, in whatever form the socket has it. For the doors. */
export const setPeer = (values: ContextValues, peer: string) => values.set(peerKey, peer);

/** From where this call comes. */
export const originOf = (context: { values: ContextValues }): Origin => context.values.get(originKey);

/** Finds out from where each call comes. Who has called from a connection before costs one look-up in memory. */
export function locate(trustedProxies: Network[] = []): Interceptor {
  const peers = new LRUCache<string, Origin>({ max: PEERS_MAX });

  const isTrusted = (ip: string) => {
    if (trustedProxies.length === 0 || ip === "") return false;
    const address = ipaddr.parse(ip);
    return trustedProxies.some((network) => address.kind() === network[0].kind() && address.match(network));
  };

  function knownPeer(peer: string): Origin {
    const known = peers.get(peer);
    if (known) return known;
    const ip = addressIn(peer);
    const origin = { ip, isProxied: isTrusted(ip) };
    peers.set(peer, origin);
    return origin;
  }

  /**
   * Each proxy writes the address that called it at the right end. So the list is read from there, for as long as those
   * who wrote are trusted; what a client wrote before them stands further left and is never reached.
   */
  function clientOf(proxy: string, forwarded: string): string {
    let client = proxy;
    let end = forwarded.length;
    while (end > 0 && isTrusted(client)) {
      const start = forwarded.lastIndexOf(",", end - 1) + 1;
      const hop = addressIn(forwarded.slice(start, end).trim());
      if (hop === "") break;
      client = hop;
      end = start - 1;
    }
    return client;
  }

  return (next) => (request) => {
    const peer = knownPeer(request.contextValues.get(peerKey));
    const forwarded = peer.isProxied ? request.header.get("x-forwarded-for") : null;
    const origin = forwarded === null ? peer : { ip: clientOf(peer.ip, forwarded), isProxied: true };
    request.contextValues.set(originKey, origin);
    return next(request);
  };
}

/** The address in `1.2.3.4`, `1.2.3.4:5678`, `2001:db8::1` or `[2001:db8::1]:5678`, in one form; empty if there is none. */
function addressIn(text: string): string {
  const [, inBrackets] = /^\[([^\]]+)\](?::\d+)?$/.exec(text) ?? [];
  const [, beforePort] = /^([\d.]+):\d+$/.exec(text) ?? [];
  const [address = ""] = (inBrackets ?? beforePort ?? text).split("%", 1);
  return isIP(address) === 0 ? "" : ipaddr.process(address).toString();
}

/** Whom a limit per address counts: an IPv4 address, or the network that an IPv6 client may choose addresses from. */
export function networkOf(ip: string): string {
  if (!ip.includes(":")) return ip;
  const bytes = ipaddr.parse(ip).toByteArray();
  return ipaddr.fromByteArray(bytes.fill(0, IPV6_NETWORK_BITS / 8)).toString();
}
