// The server of tests/support/http_servers.py in Node.js: node http_server.js NAME PORT
'use strict';
const http = require('http');

const [name, port] = [process.argv[2], Number(process.argv[3])];

const server = http.createServer((request, response) => {
	const parts = [];
	request.on('data', (part) => parts.push(part));
	request.on('end', () => {
		const body = Buffer.concat(parts);
		response.setHeader('x-server', name);
		if (request.url.endsWith('/chunked')) { // Node's default for what it does not know the length of
			response.write(body);
			response.end(name);
			return;
		}
		const answer = request.url.endsWith('/echo') ? body : Buffer.from(name);
		response.setHeader('content-length', answer.length);
		response.end(answer);
	});
});
server.keepAliveTimeout = 60000;
server.listen(port, '127.0.0.1');
