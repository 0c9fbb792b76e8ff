package listen

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	collogs "go.opentelemetry.io/proto/slim/otlp/collector/logs/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
)

// The shapes of OTLP's JSON. It is not quite protobuf's mapping: ids are hexadecimal,
// enumerations are numbers; so protojson cannot read it. Keys that are not known are
// passed over.
type (
	jsonRequest struct {
		ResourceLogs []jsonResourceLogs `json:"resourceLogs"`
	}
	jsonResourceLogs struct {
		Resource struct {
			Attributes []jsonKeyValue `json:"attributes"`
		} `json:"resource"`
		ScopeLogs []jsonScopeLogs `json:"scopeLogs"`
	}
	jsonScopeLogs struct {
		Scope struct {
			Name       string         `json:"name"`
			Version    string         `json:"version"`
			Attributes []jsonKeyValue `json:"attributes"`
		} `json:"scope"`
		LogRecords []jsonLogRecord `json:"logRecords"`
	}
	jsonLogRecord struct {
		TimeUnixNano         flexible       `json:"timeUnixNano"`
		ObservedTimeUnixNano flexible       `json:"observedTimeUnixNano"`
		SeverityNumber       flexible       `json:"severityNumber"`
		SeverityText         string         `json:"severityText"`
		Body                 *jsonAny       `json:"body"`
		Attributes           []jsonKeyValue `json:"attributes"`
		TraceID              string         `json:"traceId"`
		SpanID               string         `json:"spanId"`
		EventName            string         `json:"eventName"`
	}
	jsonKeyValue struct {
		Key   string   `json:"key"`
		Value *jsonAny `json:"value"`
	}
	jsonAny struct {
		String *string   `json:"stringValue"`
		Bool   *bool     `json:"boolValue"`
		Int    *flexible `json:"intValue"`
		Double *flexible `json:"doubleValue"`
		Bytes  *string   `json:"bytesValue"`
		Array  *struct {
			Values []*jsonAny `json:"values"`
		} `json:"arrayValue"`
		KVList *struct {
			Values []jsonKeyValue `json:"values"`
		} `json:"kvlistValue"`
	}
)

// decodeOTLPJSON reads a request in OTLP's JSON.
func decodeOTLPJSON(data []byte, into *collogs.ExportLogsServiceRequest) error {
	var request jsonRequest
	if err := json.Unmarshal(data, &request); err != nil {
		return err
	}
	for i := range request.ResourceLogs {
		from := &request.ResourceLogs[i]
		to := &logs.ResourceLogs{Resource: new(resource.Resource)}
		into.ResourceLogs = append(into.ResourceLogs, to)
		var err error
		if to.Resource.Attributes, err = keyValues(from.Resource.Attributes); err != nil {
			return err
		}
		for j := range from.ScopeLogs {
			scope, err := from.ScopeLogs[j].decode()
			if err != nil {
				return err
			}
			to.ScopeLogs = append(to.ScopeLogs, scope)
		}
	}
	return nil
}

func (s *jsonScopeLogs) decode() (*logs.ScopeLogs, error) {
	to := &logs.ScopeLogs{Scope: &common.InstrumentationScope{Name: s.Scope.Name, Version: s.Scope.Version}}
	var err error
	if to.Scope.Attributes, err = keyValues(s.Scope.Attributes); err != nil {
		return nil, err
	}
	for i := range s.LogRecords {
		l, err := s.LogRecords[i].decode()
		if err != nil {
			return nil, err
		}
		to.LogRecords = append(to.LogRecords, l)
	}
	return to, nil
}

func (r *jsonLogRecord) decode() (l *logs.LogRecord, err error) {
	l = &logs.LogRecord{SeverityText: r.SeverityText, EventName: r.EventName}
	if l.TimeUnixNano, err = r.TimeUnixNano.uint("timeUnixNano"); err != nil {
		return nil, err
	}
	if l.ObservedTimeUnixNano, err = r.ObservedTimeUnixNano.uint("observedTimeUnixNano"); err != nil {
		return nil, err
	}
	if l.SeverityNumber, err = severityNumber(string(r.SeverityNumber)); err != nil {
		return nil, err
	}
	if l.TraceId, err = hex.DecodeString(r.TraceID); err != nil {
		return nil, fmt.Errorf("traceId: %w", err)
	}
	if l.SpanId, err = hex.DecodeString(r.SpanID); err != nil {
		return nil, fmt.Errorf("spanId: %w", err)
	}
	if l.Body, err = r.Body.decode(); err != nil {
		return nil, err
	}
	l.Attributes, err = keyValues(r.Attributes)
	return l, err
}

// severityNumber reads a number, and the names of protobuf's mapping too.
func severityNumber(text string) (logs.SeverityNumber, error) {
	if text == "" || text == "null" {
		return 0, nil
	}
	if n, ok := logs.SeverityNumber_value[text]; ok {
		return logs.SeverityNumber(n), nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("severityNumber: %q is no number", text)
	}
	return logs.SeverityNumber(n), nil
}

func (n flexible) uint(key string) (uint64, error) {
	if n == "" || n == "null" {
		return 0, nil
	}
	v, err := strconv.ParseUint(string(n), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(n), 64) // 1.7e18 is a number too
		if ferr != nil || !(f >= 0 && f < 1<<63) {
			return 0, fmt.Errorf("%s: %q is no number", key, string(n))
		}
		v = uint64(f)
	}
	return v, nil
}

func keyValues(all []jsonKeyValue) (out []*common.KeyValue, err error) {
	for _, kv := range all {
		v, err := kv.Value.decode()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kv.Key, err)
		}
		out = append(out, &common.KeyValue{Key: kv.Key, Value: v})
	}
	return out, nil
}

func (a *jsonAny) decode() (*common.AnyValue, error) {
	v := new(common.AnyValue)
	switch {
	case a == nil:
		return nil, nil
	case a.String != nil:
		v.Value = &common.AnyValue_StringValue{StringValue: *a.String}
	case a.Bool != nil:
		v.Value = &common.AnyValue_BoolValue{BoolValue: *a.Bool}
	case a.Int != nil:
		n, err := strconv.ParseInt(string(*a.Int), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("intValue: %q is no integer", string(*a.Int))
		}
		v.Value = &common.AnyValue_IntValue{IntValue: n}
	case a.Double != nil:
		f, err := strconv.ParseFloat(strings.Replace(string(*a.Double), "Infinity", "Inf", 1), 64)
		if err != nil {
			return nil, fmt.Errorf("doubleValue: %q is no number", string(*a.Double))
		}
		v.Value = &common.AnyValue_DoubleValue{DoubleValue: f}
	case a.Bytes != nil:
		b, err := base64.StdEncoding.DecodeString(*a.Bytes)
		if err != nil {
			return nil, fmt.Errorf("bytesValue: %w", err)
		}
		v.Value = &common.AnyValue_BytesValue{BytesValue: b}
	case a.Array != nil:
		list := new(common.ArrayValue)
		for _, e := range a.Array.Values {
			d, err := e.decode()
			if err != nil {
				return nil, err
			}
			if d == nil {
				d = new(common.AnyValue)
			}
			list.Values = append(list.Values, d)
		}
		v.Value = &common.AnyValue_ArrayValue{ArrayValue: list}
	case a.KVList != nil:
		values, err := keyValues(a.KVList.Values)
		if err != nil {
			return nil, err
		}
		v.Value = &common.AnyValue_KvlistValue{KvlistValue: &common.KeyValueList{Values: values}}
	}
	return v, nil
}
