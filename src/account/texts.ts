import type { App } from "../app.ts";
import { phoneNotServed } from "../errors.ts";
import type { Address } from "./address.ts";

/**
 * Who may have a text message sent to which number. Each costs money, and far away a part of it goes to whoever owns the
 * number: without this gate strangers would have thousands of codes sent to numbers of their own.
 */
export function openTextGate({ config: { sms }, rates: { texts } }: Pick<App, "config" | "rates">) {
  // No calling code begins with another.
  const isServed = (phone: string) =>
    !sms || sms.countries.has("*") || [...sms.countries].some((code) => phone.startsWith(`+${code}`));

  return {
    /**
     * Throws PHONE_NOT_SERVED, RATE_LIMITED. It comes before all that depends on the address, and counts also what is
     * not sent then, so that nobody learns from it whether the number has an account.
     */
    async check({ kind, text }: Address, ip: string) {
      if (kind !== "phone") return;
      if (!isServed(text)) throw phoneNotServed();
      await texts.count(ip);
    },
  };
}
