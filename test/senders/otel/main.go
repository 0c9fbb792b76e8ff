// Command otel sends log records through OpenTelemetry's own SDK and OTLP over HTTP.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdk "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	addr := flag.String("addr", "127.0.0.1:4318", "the server's address")
	token := flag.String("token", "", "its token")
	count := flag.Int("count", 100, "how many records")
	ca := flag.String("ca", "", "PEM file of the server's authority; without one nothing is encrypted")
	cert := flag.String("cert", "", "PEM file of the certificate to show")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	ctx := context.Background()
	encryption := otlploghttp.WithInsecure()
	if *ca != "" {
		encryption = otlploghttp.WithTLSClientConfig(encrypted(*ca, *cert, *key))
	}
	exporter, err := otlploghttp.New(ctx, otlploghttp.WithEndpoint(*addr), encryption,
		otlploghttp.WithCompression(otlploghttp.GzipCompression), otlploghttp.WithHeaders(map[string]string{"Authorization": "Bearer " + *token}))
	if err != nil {
		fail(err)
	}
	provider := sdk.NewLoggerProvider(
		sdk.WithProcessor(sdk.NewBatchProcessor(exporter)),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "checkout"))),
	)
	logger := provider.Logger("sender", log.WithInstrumentationVersion("1.0"))
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0x5b, 0x8e, 0xff, 0xf7, 0x98, 0x03, 0x81, 0x03, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c}, SpanID: trace.SpanID{1, 2, 3, 4, 5, 6, 7, 8},
	})
	for n := range *count {
		var r log.Record
		r.SetTimestamp(time.Date(2026, 11, 25, 10, 0, 0, 250_000_000, time.UTC))
		r.SetSeverity(log.SeverityError)
		r.SetSeverityText("ERROR")
		r.SetBody(attribute.StringValue(fmt.Sprintf("otel %d", n)))
		r.AddAttributes(attribute.Int("n", n), attribute.Float64("nested.k", 1.5))
		logger.Emit(trace.ContextWithSpanContext(ctx, span), r)
	}
	if err := provider.Shutdown(ctx); err != nil {
		fail(err)
	}
	fmt.Println(*count)
}

func encrypted(ca, cert, key string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		fail(err)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		fail(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
