/**
 * Open banking as the rest of ChatPay sees it: people's accounts at Korean banks, and money that is drawn from them and
 * paid to them, through the centre of KFTC.
 */

/** Where the centre is and who we are to it. */
export interface BankingSettings {
  /** As https://openapi.openbanking.or.kr */
  baseUrl: string;
  clientId: string;
  clientSecret: string;
  /** Ten characters: what every bank_tran_id begins with. */
  institutionCode: string;
  /** The page people come back to from the consent, as it is registered with the centre. */
  redirectUrl: string;
  /** Our collecting account, to which withdrawals go and from which deposits are paid: its number, bank and holder. */
  accountNumber: string;
  bankCode: string;
  accountHolder: string;
  /** What deposits are signed with; NONE at the test bed. */
  passPhrase: string;
  /** Of one call. */
  timeoutMs: number;
}

/**
 * The centre. A `tranId` is a bank_tran_id: 20 characters, ours, new for every call of a day but for those that ask what
 * became of it. A `time` is when the call is made. All calls throw a BankingError and nothing else; those that move
 * money and the question what became of it throw one of kind "token" only, and then nothing was done.
 */
export interface OpenBanking {
  /** The page where a person consents. `state` has exactly 32 characters, and comes back with the code. */
  consentUrl(state: string): string;
  /** A code is taken once. */
  exchangeCode(code: string): Promise<UserGrant>;
  /** Makes a new pair of tokens of the same scope; the old pair may be of no use any more. */
  refreshGrant(refreshToken: string, scope: string[]): Promise<UserGrant>;
  /** A token of ours, which no person's consent stands behind. */
  institutionToken(): Promise<InstitutionToken>;

  /** Who consented. With the token of their consent. */
  getUser(token: string, userSeqNo: string): Promise<BankUser>;
  /** The accounts that they consented to, closed ones too. With the token of their consent. */
  listAccounts(token: string, userSeqNo: string): Promise<ConsentedAccount[]>;
  /** With a token of scope inquiry. */
  getBalance(token: string, query: { tranId: string; fintechUseNum: string; time: Date }): Promise<BankBalance>;
  /** The newest first, 25 at most. With a token of scope inquiry. */
  listTransactions(token: string, query: TransactionQuery): Promise<TransactionPage>;
  /** Whose account it is, by the bank. Refused when the birth date is not the holder's. With a token of ours. */
  getRealName(token: string, query: RealNameQuery): Promise<{ holderName: string; bankName: string }>;

  /** Draws money from a person's account into ours. With a token of scope transfer. */
  withdraw(token: string, order: WithdrawOrder): Promise<Outcome>;
  /** Pays money from our account to a person's. With a token of ours. */
  deposit(token: string, order: DepositOrder): Promise<Outcome>;
  /**
   * What became of a withdrawal or deposit; "absent" when the centre knows of none, which may be so because it is still
   * on its way. With a token of ours.
   */
  getResult(token: string, query: ResultQuery): Promise<Outcome | { is: "absent" }>;

  /** Ends the consent to one use of one account. What has ended already is no error. */
  cancelAccount(
    token: string,
    query: { tranId: string; fintechUseNum: string; scope: "inquiry" | "transfer" },
  ): Promise<void>;
  /** Waits for what is under way, and ends the connections. */
  close(): Promise<void>;
}

/** What a person's consent gives us. */
export interface UserGrant {
  accessToken: string;
  refreshToken: string;
  /** Who they are to the centre; ten digits. */
  userSeqNo: string;
  /** As ["inquiry", "login", "transfer"]. */
  scope: string[];
  /** When the access token ends. */
  expireTime: Date;
}

/** What calls are made with that need no person's consent. */
export interface InstitutionToken {
  accessToken: string;
  expireTime: Date;
}

/** A person as the centre knows them. */
export interface BankUser {
  name: string;
  /** The connecting information; empty when the centre does not tell it. */
  ci: string;
  /** As 1990-12-31. */
  birthDate?: string;
  accounts: ConsentedAccount[];
}

/** An account that somebody let us see or draw from. */
export interface ConsentedAccount {
  /** Its name between the centre and us; 24 characters. */
  fintechUseNum: string;
  /** Three digits, as 088. */
  bankCode: string;
  bankName: string;
  /** With its last digits hidden, as 110-123-***. */
  maskedNumber: string;
  /** In full, when we are entitled to it. */
  number?: string;
  holderName: string;
  /** What the person calls it. */
  alias: string;
  inquiryAgreed: boolean;
  transferAgreed: boolean;
  isOpen: boolean;
}

/** In won. A loan's balance is negative. */
export interface BankBalance {
  balance: bigint;
  /** What can be drawn. */
  available: bigint;
  productName: string;
}

/** Days as yyyyMMdd in Seoul, both included. `trace` is empty for the first page, then the last page's `nextTrace`. */
export interface TransactionQuery {
  tranId: string;
  fintechUseNum: string;
  fromDate: string;
  toDate: string;
  time: Date;
  direction: "all" | "in" | "out";
  trace: string;
}

/** A page of what happened in an account, in won. Without `nextTrace` it is the last. */
export interface TransactionPage {
  /** Not told where nothing happened. */
  balance: bigint | undefined;
  entries: BankEntry[];
  nextTrace: string | undefined;
}

/** One line of a bank statement, in won. */
export interface BankEntry {
  time: Date;
  direction: "in" | "out";
  amount: bigint;
  balanceAfter: bigint;
  /** What is printed in the passbook. */
  content: string;
  /** In the bank's words, as 현금 or 이체. */
  kind: string;
  branch: string;
}

/** An account by its number, and the birth date of its holder as yyMMdd. */
export interface RealNameQuery {
  tranId: string;
  bankCode: string;
  accountNumber: string;
  birthDate: string;
  time: Date;
}

/** In won. */
export interface WithdrawOrder {
  tranId: string;
  fintechUseNum: string;
  amount: bigint;
  time: Date;
  /** RC charges a wallet, TR remits, ST pays. */
  purpose: "RC" | "TR" | "ST";
  /** Our own number of the person; digits and upper-case letters, 20 at most. */
  memberNumber: string;
  memberName: string;
  /** An account of the person who asks, which may be the same. */
  memberFintechUseNum: string;
  /** What our statement shows, and theirs. */
  printOurs: string;
  printTheirs: string;
}

/** In won. */
export interface DepositOrder {
  tranId: string;
  amount: bigint;
  time: Date;
  /** Our own number of the person who asks; digits and upper-case letters, 20 at most. */
  memberNumber: string;
  /** What our statement shows, and theirs. */
  printOurs: string;
  printTheirs: string;
  /** The bank compares the holder's name of an account that is given by its number. */
  to: { fintechUseNum: string } | { bankCode: string; accountNumber: string; holderName: string };
}

/** Of the transfer: its id and amount, and its day in Seoul as yyyyMMdd, or the day that the answer to it told. */
export interface ResultQuery {
  kind: "withdraw" | "deposit";
  tranId: string;
  date: string;
  amount: bigint;
  time: Date;
}

/** What became of money. "unknown" is never rounded off: ask for the result later. */
export type Outcome = Approved | Declined | Unknown;

export interface Approved {
  is: "approved";
  /** bank_tran_date, as yyyyMMdd: what the result is asked with. */
  tranDate: string;
  apiTranId: string;
  amount: bigint;
}

/** No money moved, and none will. */
export interface Declined {
  is: "declined";
  /** A code of the centre with five characters, as A0112, of a bank with three, as 453, or NOT_SENT. */
  code: string;
  /** In the bank's words, or in ours where it has none; for the person. */
  message: string;
  /** Of the bank that said so, or empty. */
  bankCode: string;
}

export interface Unknown {
  is: "unknown";
  /** For the log: short, without personal data, as "timeout" or "code A0007". */
  why: string;
}

/** The code of what never left this machine. */
export const NOT_SENT = "NOT_SENT";

/**
 * The centre or a bank said no to a call that moves no money, or could not be asked.
 *
 * - `refused`: it will say the same again.
 * - `unavailable`: no answer, or none that can be read; try again later.
 * - `token`: the token is refused or has expired. Nothing was done; renew it and try again.
 */
export class BankingError extends Error {
  readonly kind: "refused" | "unavailable" | "token";
  /** Of the centre, as A0323, of a bank, as 412, or a word such as TIMEOUT. */
  readonly code: string;
  /** In the bank's words, for the person; never for the log. Empty where it has none. */
  readonly bankMessage: string;

  constructor(kind: BankingError["kind"], code: string, bankMessage = "") {
    super(`open banking: ${kind}, ${code}`);
    this.kind = kind;
    this.code = code;
    this.bankMessage = bankMessage;
  }
}
