package parser

import "strings"

// maxRequestID is the length of the longest request id, in bytes.
const maxRequestID = 256

// requestIDKeys are the keys that name a request, in lower case without _ and -, by
// how sure they are that.
var requestIDKeys = map[string]uint8{
	"requestid": 95, "reqid": 93, "xrequestid": 94, "requestuuid": 90, "req.id": 88, "request.id": 88, "http.request.id": 88, "xreqid": 85, "httpxrequestid": 87,
	"correlationid": 75, "xcorrelationid": 75, "traceid": 65, "trace.id": 65, "xtraceid": 64, "xb3traceid": 63, "b3traceid": 63, "dd.traceid": 60,
}

// requestIDRank returns how sure a JSON key, with the keys around it, names the request;
// 0 when it does not. Under other keys (mdc.requestId, req.headers.x-request-id) it is
// less sure.
func requestIDRank(path string) uint8 {
	key := normalKey(path)
	if rank, ok := requestIDKeys[key]; ok {
		return rank
	}
	if i := strings.LastIndexByte(key, '.'); i >= 0 {
		if rank, ok := requestIDKeys[key[i+1:]]; ok {
			return rank - 30
		}
	}
	return 0
}
