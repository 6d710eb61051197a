/** Enough to recognise what was sent; a hostile value must not blow up a log line or an error body. */
const MAX_QUOTED_LENGTH = 100;

/** Foreign text as it may stand in a message: in double quotes, control characters escaped, cut to 100 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length <= MAX_QUOTED_LENGTH ? text : `${text.slice(0, MAX_QUOTED_LENGTH)}…`);
}
