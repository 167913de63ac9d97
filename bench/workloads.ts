/** Who sends to whom. People are numbered from 0. */
export interface Workload {
  name: string;
  sender(): number;
  /** Never the sender. */
  recipient(sender: number): number;
}

/** The one whom everybody knows. */
const HOT = 0;

export function workloadsOf(people: number): Workload[] {
  const anyone = () => Math.floor(Math.random() * people);
  const others = () => 1 + Math.floor(Math.random() * (people - 1));
  const popular = zipf(people);
  return [
    { name: "spread", sender: anyone, recipient: (sender) => otherThan(sender, anyone) },
    { name: "hot receiver", sender: others, recipient: () => HOT },
    { name: "hot sender", sender: () => HOT, recipient: others },
    { name: "opposed pair", sender: () => Math.floor(Math.random() * 2), recipient: (sender) => 1 - sender },
    { name: "zipf 1.0", sender: popular, recipient: (sender) => otherThan(sender, popular) },
  ];
}

export function workloadOf(name: string, people: number): Workload {
  const found = workloadsOf(people).find((workload) => workload.name === name);
  if (!found) throw new Error(`no workload is called ${name}`);
  return found;
}

function otherThan(sender: number, pick: () => number): number {
  for (;;) {
    const recipient = pick();
    if (recipient !== sender) return recipient;
  }
}

/** The person in place n is drawn 1/n times as often as the first. */
function zipf(people: number): () => number {
  const upTo = new Float64Array(people);
  let total = 0;
  for (let i = 0; i < people; i += 1) upTo[i] = total += 1 / (i + 1);
  return () => {
    const drawn = Math.random() * total;
    let low = 0;
    let high = people - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((upTo[middle] ?? total) < drawn) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
