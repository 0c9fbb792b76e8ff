// Package services holds the tests of the outputs against a real Kafka and a real
// Elasticsearch.
package services

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/tailwater/tailwater/test/rig"
)

const root = "../.."

var servers *rig.Services

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		return 0 // all tests here need the servers
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*rig.ServicesTime)
	defer cancel()
	var err error
	if servers, err = rig.StartServices(ctx, root); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer servers.Stop()
	return m.Run()
}

// torture is for the tests that take minutes; see make torture.
func torture(t *testing.T) {
	t.Helper()
	if os.Getenv("TAILWATER_TORTURE") == "" {
		t.Skip("takes minutes: make torture")
	}
}
