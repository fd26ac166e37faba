//go:build linux && applications

package applications

import (
	"testing"

	"github.com/kerngate/kerngate/test/lab"
)

const nodeHost = "node.test"

// node closes a connection 5 s after the last response, as it does by default: just when an
// ingress may send another request on it.
var node = application{
	name: "Node.js", source: "Debian: nodejs (server and client)",
	programs: []string{"node"},
	version:  func(t *testing.T) string { return "node " + versionOf(t, "node", "--version") },
	publish: func(s *site) {
		pod := s.addPod("nodejs-1")
		s.serve(pod, 80, lab.Command{Path: "node", Args: []string{s.file("server.js", nodeServer)}})
		s.add(publication{host: nodeHost, pod: pod, port: 80})
	},
	conversations: []conversation{
		{does: "80 connections, each idle for 4.9 to 5.1 s between two GET requests", talk: nodeTalk("GET", "0", "80"), want: "160 of 160 answered with 200"},
		{does: "streamed POST of 300 kB, chunked", talk: nodeTalk("POST", "300000", "1"), want: "1 of 1 answered with 200, 300000 bytes read"},
	},
}

func TestNode(t *testing.T) { run(t, &node) }

// nodeServer has the time-outs that it has by default.
const nodeServer = `
const http = require("http");
http.createServer((request, response) => {
	let bytes = 0;
	request.on("data", (data) => bytes += data.length);
	request.on("end", () => response.end(String(bytes)));
}).listen(80, "0.0.0.0");
`

// nodeClient sends requests on connections of its own: on each one, waits, and another.
const nodeClient = `
const http = require("http");
const [url, method, size, count] = process.argv.slice(2);
const failed = {};
let sent = 0, good = 0, read = "";
const ask = (agent) => new Promise((done) => {
	sent++;
	const note = (what) => { failed[what] = (failed[what] || 0) + 1; done(); };
	const request = http.request(url, { method, agent }, (response) => {
		let body = "";
		response.on("data", (data) => body += data);
		response.on("error", (error) => note(error.code));
		response.on("end", () => {
			if (response.statusCode !== 200) return note("status " + response.statusCode);
			good++;
			if (method === "POST") read = ", " + body + " bytes read";
			done();
		});
	});
	request.on("error", (error) => note(error.code));
	for (let left = Number(size); left > 0; left -= 10000) request.write(Buffer.alloc(Math.min(left, 10000), "x"));
	request.end();
});
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const one = async (i) => {
	const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
	await ask(agent);
	if (method === "GET") {
		await pause(4900 + 200 * i / count);
		await ask(agent);
	}
	agent.destroy();
};
Promise.all([...Array(Number(count)).keys()].map(one)).then(() => {
	console.log(good + " of " + sent + " answered with 200" + read + Object.entries(failed).map(([what, n]) => ", " + n + " " + what).join(""));
});
`

// nodeTalk runs the client and returns what it prints. The conversations do not compare
// with the pod itself: there the client would have to repeat a request whose connection was just
// closed.
func nodeTalk(method, size, count string) func(*way) string {
	return func(w *way) string {
		return w.run("node", w.file("client.js", nodeClient), w.url(false, nodeHost, "/"), method, size, count).stdout
	}
}
