/** A whole page. `body` and `style` are taken as they are, so what came from outside must be escaped in them. */
export const htmlPage = (page: {
  title: string;
  style: string;
  body: string;
  lang?: string;
  refreshSeconds?: number;
}) => `<!doctype html>
<html lang="${page.lang ?? "en"}">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
${page.refreshSeconds ? `<meta http-equiv="refresh" content="${page.refreshSeconds}">` : ""}
<title>${page.title}</title>
<style>
  :root { color-scheme: light dark; --line: light-dark(#e2e4e9, #3a3f4a); --soft: light-dark(#667085, #98a2b3);
    --card: light-dark(#fff, #1f232b); }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2.5rem auto; padding: 0 1rem;
    color: light-dark(#1d2433, #e6e8ec); background: light-dark(#f7f8fa, #16181d); }
  h1 { font-size: 1.4rem; margin: 0; }
  a { color: inherit; }
${page.style}
</style>
${page.body}
</html>
`;

/** What came from outside is text and nothing else. */
export const escape = (text: string) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
