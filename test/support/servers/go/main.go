// Servers and oracles that the tests of dvflow run: an S3 server, a GCS server, and Go's own rules for proxies.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"

	"github.com/fsouza/fake-gcs-server/fakestorage"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"golang.org/x/net/http/httpproxy"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: %s s3|gcs|proxy-rules", os.Args[0]))
	}
	switch os.Args[1] {
	case "s3":
		serveS3()
	case "gcs":
		serveGcs()
	case "proxy-rules":
		tellProxies()
	default:
		fail(fmt.Errorf("unknown command %s", os.Args[1]))
	}
}

// serveS3 keeps objects in memory and verifies no signature: what stands before it does.
func serveS3() {
	server := gofakes3.New(s3mem.New(), gofakes3.WithAutoBucket(true))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fail(err)
	}
	go untilInputEnds()
	fmt.Printf("http://%s\n", listener.Addr())
	fail(http.Serve(listener, server.Server()))
}

// serveGcs keeps objects in memory and verifies no token: what stands before it does.
func serveGcs() {
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http",
		Host:   "127.0.0.1",
		Writer: io.Discard,
	})
	if err != nil {
		fail(err)
	}
	fmt.Println(server.URL())
	untilInputEnds()
}

// proxyQuestion is a line of input: by which proxy would Go go to URL?
type proxyQuestion struct {
	HTTP    string `json:"http"`
	HTTPS   string `json:"https"`
	NoProxy string `json:"noProxy"`
	URL     string `json:"url"`
}

// tellProxies answers each line of input with the address of a proxy, or an empty line for none.
func tellProxies() {
	lines := bufio.NewScanner(os.Stdin)
	answers := bufio.NewWriter(os.Stdout)
	defer answers.Flush()
	for lines.Scan() {
		var question proxyQuestion
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			fail(err)
		}
		target, err := url.Parse(question.URL)
		if err != nil {
			fail(err)
		}
		config := httpproxy.Config{HTTPProxy: question.HTTP, HTTPSProxy: question.HTTPS, NoProxy: question.NoProxy}
		proxy, err := config.ProxyFunc()(target)
		if err != nil {
			fail(err)
		}
		if proxy == nil {
			fmt.Fprintln(answers)
		} else {
			fmt.Fprintln(answers, proxy)
		}
	}
}

// untilInputEnds ties the process to its parent: a test run that is killed leaves no server behind.
func untilInputEnds() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
