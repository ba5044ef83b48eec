// Package realclients has no code: its tests run well-known Go libraries that take an
// http.Client over Berth: the AWS SDK's S3 client against an S3 server in the test, a
// WebSocket client against a WebSocket server, a container that wires named clients, and
// otelhttp with a collector; and a browser opens the live page of a Transport. It is a
// module of its own, so that they are no dependency of Berth's.
package realclients
