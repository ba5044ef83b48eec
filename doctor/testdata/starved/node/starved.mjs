// Keeps two bodies of fetch unconsumed, which is all that its agent may have open, and
// asks for a third: node starved.mjs http://127.0.0.1:8080/
const url = process.argv[2];
await fetch('data:,'); // loads fetch
// The agent of the fetch that is built in is reached by the symbol that it registers.
const { constructor: Agent } = globalThis[Symbol.for('undici.globalDispatcher.1')];
const dispatcher = new Agent({ connections: 2 });
const held = [await fetch(url, { dispatcher }), await fetch(url, { dispatcher })];
// await held[i].body.cancel() is what is missing
console.log('ready');
setInterval(() => {}, 1000); // the rest of a program: a paused socket does not keep one alive
await fetch(url, { dispatcher }); // waits for ever
console.log(held);
