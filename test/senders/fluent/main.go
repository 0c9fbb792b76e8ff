// Command fluent sends numbered lines by Fluentd's forward protocol with acks, through
// Fluent's own Go client. It prints how many the server has acknowledged.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/fluent/fluent-logger-golang/fluent"
)

func main() {
	port := flag.Int("port", 24224, "the server's port on 127.0.0.1")
	count := flag.Int("count", 100, "how many records")
	encrypt := flag.Bool("tls", false, "encrypt; the client looks at no certificate")
	every := flag.Duration("every", 0, "time from one record to the next, beside that for its ack")
	flag.Parse()
	network := "tcp"
	if *encrypt {
		network = "tls"
	}
	client, err := fluent.New(fluent.Config{
		FluentNetwork: network, TlsInsecureSkipVerify: true, FluentHost: "127.0.0.1", FluentPort: *port, RequestAck: true, SubSecondPrecision: true,
		WriteTimeout: 5 * time.Second, ReadTimeout: 20 * time.Second, MaxRetry: 100, RetryWait: 50, MaxRetryWait: 200,
	})
	if err != nil {
		fail(err)
	}
	defer client.Close()
	at := time.Date(2026, 11, 25, 10, 0, 0, 250_000_000, time.UTC)
	for n := range *count {
		record := map[string]any{"message": fmt.Sprintf("fluent %d", n), "n": n, "level": "warn", "nested": map[string]any{"k": 1.5}}
		if err := client.PostWithTime("shop.app", at, record); err != nil {
			fail(err)
		}
		time.Sleep(*every)
	}
	fmt.Println(*count)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
