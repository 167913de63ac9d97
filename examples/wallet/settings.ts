/** What the page is told by whoever serves it. */
export interface Settings {
  /** Where mail to demo people can be read. */
  mailUrl?: string;
  /** A partner to pay. */
  partnerId?: string;
}
