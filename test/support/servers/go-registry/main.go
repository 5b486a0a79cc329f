// A registry that keeps images in memory, for the tests of dvflow: the one that crane serves, with or without TLS.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	go untilInputEnds()
	fmt.Println(listener.Addr())
	server := &http.Server{
		Handler:  registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		ErrorLog: log.New(io.Discard, "", 0),
	}
	switch len(os.Args) {
	case 1:
		fail(server.Serve(listener))
	case 3:
		fail(server.ServeTLS(listener, os.Args[1], os.Args[2]))
	default:
		fail(fmt.Errorf("usage: %s [certificate key]", os.Args[0]))
	}
}

// untilInputEnds ends the server with the test that started it, however that ends.
func untilInputEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
