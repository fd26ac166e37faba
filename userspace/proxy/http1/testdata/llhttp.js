// Reads messages with llhttp, the parser inside of Node, for comparison.
//
// stdin:  one line per input: "request" or the method of the request that a
//         response answers, a space, and the bytes of the connection in base64
// stdout: one line of JSON per input:
//         {messages: [{method, target, status, minor, keepAlive, upgrade, fields, trailers, body}], error}
'use strict';
process.removeAllListeners('warning');
process.on('warning', () => {}); // DEP0111: there is no public way to the parser
const { HTTPParser, methods, allMethods } = process.binding('http_parser');
const names = allMethods || methods;

function read(kind, input) {
  const messages = [];
  let open = null; // the message being read
  const parser = new HTTPParser();
  parser.initialize(kind === 'request' ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {}, 1 << 20, HTTPParser.kLenientNone);
  parser[HTTPParser.kOnMessageBegin | 0] = () => {
    open = { fields: [], trailers: [], body: '', target: '', head: false };
  };
  // Fields that do not fit in one call, and trailers.
  parser[HTTPParser.kOnHeaders | 0] = (fields, target) => {
    (open.head ? open.trailers : open.fields).push(...fields);
    if (!open.head) open.target += target;
  };
  parser[HTTPParser.kOnHeadersComplete | 0] = (major, minor, fields, method, target, status, reason, upgrade, keepAlive) => {
    open.fields.push(...(fields || []));
    open.target += target || '';
    Object.assign(open, { head: true, minor, method: names[method] || '', status: status || 0, upgrade, keepAlive });
    if (kind !== 'request' && kind === 'HEAD') return 1; // no body
    return 0;
  };
  parser[HTTPParser.kOnBody | 0] = (data) => {
    open.body += data.toString('latin1');
  };
  parser[HTTPParser.kOnMessageComplete | 0] = () => {
    delete open.head;
    messages.push(open);
    open = null;
  };
  let result = parser.execute(input);
  if (!(result instanceof Error) && !messages.some((m) => m.upgrade)) result = parser.finish();
  const error = result instanceof Error ? String(result.code) : '';
  parser.close();
  // Bytes become characters below U+0100, in the same way for fields and bodies.
  return JSON.stringify({ messages, error });
}

let pending = '';
process.stdin.setEncoding('latin1');
process.stdin.on('data', (text) => {
  pending += text;
  for (let end; (end = pending.indexOf('\n')) >= 0; pending = pending.slice(end + 1)) {
    const [kind, data] = pending.slice(0, end).split(' ');
    process.stdout.write(read(kind, Buffer.from(data, 'base64')) + '\n');
  }
});
