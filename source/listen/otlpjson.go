package listen

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	logs "go.opentelemetry.io/proto/slim/otlp/logs/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

// The shapes of OTLP's JSON. It is not quite protobuf's mapping: ids are hexadecimal,
// enumerations are numbers; so protojson cannot read it. Keys that are not known are
// passed over.
type (
	jsonScope struct {
		Name       string         `json:"name"`
		Version    string         `json:"version"`
		Attributes []jsonKeyValue `json:"attributes"`
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

// requestJSON takes the records of a request in OTLP's JSON, one after the other: decoded
// all at once they would need many times the memory of the body.
func (o *otlpReader) requestJSON(body []byte) error {
	body = trimSpace(body)
	if !json.Valid(body) {
		return errors.New(jsonTrouble(body))
	}
	return eachObject(body, "resourceLogs", func(of []byte) error {
		project, err := o.resourceJSON(of)
		if err != nil {
			return err
		}
		return eachObject(of, "scopeLogs", func(in []byte) error { return o.scopeJSON(in, project) })
	})
}

func (o *otlpReader) resourceJSON(of []byte) (project []byte, err error) {
	var from struct {
		Attributes []jsonKeyValue `json:"attributes"`
	}
	if err := o.decode(of, "resource", &from); err != nil {
		return nil, err
	}
	to := new(resource.Resource)
	if to.Attributes, err = keyValues(from.Attributes); err != nil {
		return nil, err
	}
	message, err := proto.Marshal(to)
	if err != nil {
		return nil, err
	}
	return o.beginResource(message)
}

func (o *otlpReader) scopeJSON(in, project []byte) error {
	var from jsonScope
	if err := o.decode(in, "scope", &from); err != nil {
		return err
	}
	to := &common.InstrumentationScope{Name: from.Name, Version: from.Version}
	var err error
	if to.Attributes, err = keyValues(from.Attributes); err != nil {
		return err
	}
	message, err := proto.Marshal(to)
	if err != nil {
		return err
	}
	before := len(o.shared)
	defer func() { o.shared = o.shared[:before] }()
	if err := o.beginScope(message); err != nil {
		return err
	}
	return eachObject(in, "logRecords", func(text []byte) error {
		if o.heavy(text) {
			o.rejected++
			return nil
		}
		var from jsonLogRecord
		if err := json.Unmarshal(text, &from); err != nil {
			return err
		}
		to, err := from.decode()
		if err != nil {
			return err
		}
		message, err := proto.Marshal(to)
		if err != nil {
			return err
		}
		return o.record(message, project)
	})
}

// heavy tells whether a value, decoded, would need more memory than one record may.
func (o *otlpReader) heavy(value []byte) bool {
	if len(value) < 64<<10 {
		return false
	}
	return 300*bytes.Count(value, []byte("{"))+64*bytes.Count(value, []byte(",")) > max(32<<20, 4*o.maxLine)
}

// decode reads one member of an object, if it is there.
func (o *otlpReader) decode(object []byte, name string, into any) error {
	value, err := member(object, name)
	if value == nil || err != nil {
		return err
	}
	if o.heavy(value) {
		return errUnfolded
	}
	return json.Unmarshal(value, into)
}

// member is the value of that name, nil where there is none or it is null.
func member(object []byte, name string) (found []byte, err error) {
	if object[0] != '{' {
		return nil, fmt.Errorf("%s is looked for in what is no object", name)
	}
	eachMember(object, func(key, value []byte) {
		if string(key) == name {
			found = value
		}
	})
	if string(found) == "null" {
		return nil, nil
	}
	return found, nil
}

// eachObject takes the objects of the array of that name, if it is there.
func eachObject(of []byte, name string, take func(object []byte) error) error {
	array, err := member(of, name)
	if array == nil || err != nil {
		return err
	}
	if array[0] != '[' {
		return fmt.Errorf("%s is no array", name)
	}
	eachElement(array, func(element []byte) {
		switch {
		case err != nil:
		case element[0] != '{':
			err = fmt.Errorf("%s has an element that is no object", name)
		default:
			err = take(element)
		}
	})
	return err
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

// flexible reads a number that may stand in quotes, as JSON's mapping of protobuf has
// 64-bit ones.
type flexible string

func (n *flexible) UnmarshalJSON(b []byte) error {
	*n = flexible(strings.Trim(string(b), `"`))
	return nil
}
