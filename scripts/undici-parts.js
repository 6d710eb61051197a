/**
 * What the build takes for `undici`: the parts that Weir uses, put together as undici's own index.js does. The whole of it
 * (fetch, WebSocket, caches, mocks) costs a start some 50 ms and 10 MiB.
 */
import * as api from "undici/lib/api/index.js";
import connector from "undici/lib/core/connect.js";
import agent from "undici/lib/dispatcher/agent.js";
import dispatcher from "undici/lib/dispatcher/dispatcher.js";

Object.assign(dispatcher.prototype, api);

export { agent as Agent, connector as buildConnector, dispatcher as Dispatcher };
