// Node's HTTP client as tests/support/http_client_libraries.py describes it: node http_client.js BASE [close]
'use strict';
const http = require('http');

const [base, close] = [process.argv[2], process.argv[3]];
const agent = new http.Agent(close ? { keepAlive: false } : { keepAlive: true, maxSockets: 1 });
const lines = require('fs').readFileSync(0, 'utf8').split('\n').slice(0, -1);

function ask(line) {
	const [method, path, header, body] = line.split('\t');
	const headers = header ? { [header.split(': ')[0]]: header.split(': ')[1] } : {};
	if (body)
		headers['content-length'] = Buffer.byteLength(body);
	return new Promise((resolve, reject) => {
		const request = http.request(base + path, { agent, method, headers, timeout: 10000 }, (answer) => {
			const parts = [];
			answer.on('data', (part) => parts.push(part));
			answer.on('error', reject);
			answer.on('end', () => {
				process.stdout.write(`${answer.statusCode}\t${answer.headers['x-server']}\t${Buffer.concat(parts)}\n`);
				resolve();
			});
		});
		request.on('error', reject);
		request.on('timeout', () => request.destroy(new Error('timeout')));
		request.end(body);
	});
}

(async () => {
	for (const line of lines)
		await ask(line);
	agent.destroy();
})();
