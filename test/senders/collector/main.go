// Command collector sends numbered log records through the OpenTelemetry Collector's own
// exporter of OTLP over HTTP, with its queue and its retries: each batch comes again
// until it is answered. It prints how many were.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/component/componenttest"
	"go.opentelemetry.io/collector/confmap"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/otlphttpexporter"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.uber.org/zap"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:4318", "the server's address")
	token := flag.String("token", "", "its token")
	count := flag.Int("count", 100, "how many records")
	size := flag.Int("batch", 10, "records of a batch")
	encoding := flag.String("encoding", "proto", "proto or json")
	every := flag.Duration("every", 0, "time from one batch to the next")
	invalid := flag.Bool("invalid", false, "texts that are no UTF-8, as receivers of files hand them on")
	flag.Parse()
	ctx := context.Background()
	factory := otlphttpexporter.NewFactory()
	cfg := factory.CreateDefaultConfig()
	if err := confmap.NewFromStringMap(map[string]any{
		"endpoint": "http://" + *addr, "encoding": *encoding, "headers": map[string]any{"Authorization": "Bearer " + *token},
		"retry_on_failure": map[string]any{"initial_interval": "100ms", "max_interval": "500ms", "max_elapsed_time": "2m"},
		"sending_queue":    map[string]any{"num_consumers": 2, "queue_size": 1_000_000},
	}).Unmarshal(cfg); err != nil {
		fail(err)
	}
	log, err := zap.NewProduction(zap.AddStacktrace(zap.FatalLevel))
	if err != nil {
		fail(err)
	}
	telemetry := componenttest.NewNopTelemetrySettings()
	telemetry.Logger = log
	logs, err := factory.CreateLogs(ctx, exporter.Settings{ID: component.NewID(factory.Type()), TelemetrySettings: telemetry, BuildInfo: component.NewDefaultBuildInfo()}, cfg)
	if err != nil {
		fail(err)
	}
	if err := logs.Start(ctx, componenttest.NewNopHost()); err != nil {
		fail(err)
	}
	for n := 0; n < *count; n += *size {
		if err := logs.ConsumeLogs(ctx, batch(n, min(*size, *count-n), *invalid)); err != nil {
			fail(err)
		}
		time.Sleep(*every)
	}
	if err := logs.Shutdown(ctx); err != nil { // it delivers what waits
		fail(err)
	}
	fmt.Println(*count)
}

func batch(from, count int, invalid bool) plog.Logs {
	all := plog.NewLogs()
	of := all.ResourceLogs().AppendEmpty()
	of.Resource().Attributes().PutStr("service.name", "checkout")
	in := of.ScopeLogs().AppendEmpty()
	for n := from; n < from+count; n++ {
		r := in.LogRecords().AppendEmpty()
		r.SetTimestamp(1795600800250000000)
		r.SetSeverityNumber(plog.SeverityNumberError)
		r.Attributes().PutInt("n", int64(n))
		text := fmt.Sprintf("collected %d", n)
		if invalid {
			text += " \xe4\xff"
		}
		r.Body().SetStr(text)
	}
	return all
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
