export { openBackend } from "./src/backend/open.ts";
export { ReAttention } from "./src/reattention/reattention.ts";
