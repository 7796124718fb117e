"""Server for exported models over HTTP and gRPC, and a client."""
