package main

import (
	"math/rand/v2"
	"strconv"
	"time"
)

// request is one request through the gateway, from which all its lines are made.
type request struct {
	at       time.Time // when it was answered
	id       [32]byte  // request_id, in hex
	trace    [32]byte  // trace_id of the services
	number   int       // of an order, a payment, a product
	user     int
	service  int // index into services
	route    *route
	status   int
	bytes    int
	seconds  float64 // request_time
	upstream float64 // negative: no upstream answered
	retried  bool    // a first upstream failed, a second answered
	trouble  trouble
	client   *client
	addr     [4]byte
}

// trouble is what goes wrong with a request, if anything.
type trouble uint8

const (
	fine      trouble = iota
	slow              // the upstream takes seconds
	exception         // the service answers 500 and logs why
	unreached         // no upstream: 502 at the gateway, nothing in the service's log
)

// service is one of the shop's services.
type service struct {
	name  string
	pod   string
	share int // of 100 requests
}

var services = []service{
	{"orders", "orders-7d9c5b6f48-k2v9x", 45},
	{"payments", "payments-5f8d7c9b64-q7m2z", 20},
	{"catalog", "catalog-6b7f9d8c55-w4t8n", 35},
}

// route is one endpoint; # in the path and the query stands for a number.
type route struct {
	service     int
	method      string
	path, query string
	bytes       int // size of a usual answer
}

var routes = []route{
	{0, "GET", "/api/v1/orders/#/items", "page=2&size=50", 5300},
	{0, "GET", "/api/v1/orders/#", "", 1450},
	{0, "POST", "/api/v1/orders", "", 620},
	{0, "PUT", "/api/v1/orders/#/address", "", 310},
	{0, "GET", "/api/v1/users/#/orders", "state=open&sort=-created_at&page=1", 8100},
	{1, "POST", "/api/v1/payments", "", 540},
	{1, "POST", "/api/v1/payments/#/capture", "", 410},
	{1, "GET", "/api/v1/payments/#", "expand=refunds", 980},
	{2, "GET", "/api/v1/products/#", "", 2900},
	{2, "GET", "/api/v1/products", "category=garden&q=water+hose&page=3", 14800},
	{2, "GET", "/static/img/products/#.webp", "v=20261101", 48000},
	{2, "GET", "/api/v1/recommendations", "for=#&limit=12", 6400},
}

// client is a kind of client with what it sends.
type client struct {
	referer, agent string
	weight         int
}

var clients = []client{
	{"https://shop.example.com/account/orders?utm_source=campaign", "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36", 42},
	{"https://shop.example.com/", "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1 Safari/605.1.15", 18},
	{"https://shop.example.com/garden", "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0", 9},
	{"-", "ShopApp/7.14.2 (iPhone; iOS 18.1.1; Scale/3.00)", 13},
	{"-", "ShopApp/7.14.0 (Android 15; Pixel 9) okhttp/4.12.0", 12},
	{"-", "python-requests/2.32.3", 2},
	{"-", "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", 3},
	{"-", "-", 1},
}

// traffic makes requests, one after another, in the same order for the same seed.
type traffic struct {
	rng *rand.Rand
	// episode is what the bursts of trouble are now, and until when.
	episode trouble
	first   trouble // what the first of them is; fine: whatever the seed says
	victim  int
	until   time.Time
	next    time.Time
}

func newTraffic(seed uint64, start time.Time) *traffic {
	return &traffic{rng: rand.New(rand.NewPCG(seed, 0x7461696c)), next: start.Add(8 * time.Second)}
}

// newLiveTraffic begins with exceptions: whoever looks on sees an alert within the first
// minute.
func newLiveTraffic(seed uint64, start time.Time) *traffic {
	t := newTraffic(seed, start)
	t.first = exception
	return t
}

// request makes the request that is answered at the time at.
func (t *traffic) request(at time.Time) *request {
	t.burst(at)
	rng := t.rng
	q := &request{at: at, number: 1000 + rng.IntN(900000), user: 1000 + rng.IntN(90000)}
	hex(q.id[:], rng)
	hex(q.trace[:], rng)
	q.service = pick(rng, services, func(s *service) int { return s.share })
	q.route = t.route(q.service)
	q.client = &clients[pick(rng, clients, func(c *client) int { return c.weight })]
	q.addr = [4]byte{byte(20 + rng.IntN(200)), byte(rng.IntN(256)), byte(rng.IntN(256)), byte(1 + rng.IntN(254))}
	q.upstream = 0.002 + rng.ExpFloat64()*0.035
	q.status, q.bytes = 200, q.route.bytes/2+rng.IntN(q.route.bytes)
	if q.route.method == "POST" && rng.IntN(3) > 0 {
		q.status = 201
	}
	t.spoil(q)
	q.seconds = max(q.upstream, 0) + 0.001 + rng.ExpFloat64()*0.002
	return q
}

// burst begins and ends the episodes in which one service is in trouble.
func (t *traffic) burst(at time.Time) {
	if at.After(t.until) {
		t.episode = fine
	}
	if at.After(t.next) {
		t.episode = trouble(1 + t.rng.IntN(3))
		t.victim = t.rng.IntN(len(services))
		t.until = at.Add(time.Duration(3+t.rng.IntN(7)) * time.Second)
		t.next = t.until.Add(time.Duration(10+t.rng.IntN(25)) * time.Second)
		if t.first != fine {
			t.episode, t.first = t.first, fine
		}
	}
}

// spoil decides what goes wrong with q.
func (t *traffic) spoil(q *request) {
	rng := t.rng
	dice := rng.IntN(1000)
	if t.episode != fine && q.service == t.victim && dice < 400 {
		q.trouble = t.episode
	} else {
		switch {
		case dice < 3:
			q.trouble = exception
		case dice < 5:
			q.trouble = slow
		case dice < 25:
			q.status, q.bytes = 404, 146
		case dice < 35:
			q.status, q.bytes = 401, 92
		case dice < 45:
			q.status, q.bytes = 304, 0
		case dice < 50:
			q.retried = true
		}
	}
	switch q.trouble {
	case slow:
		q.upstream = 1.2 + rng.ExpFloat64()*2.5
	case exception:
		q.status, q.bytes = 500, 87
	case unreached:
		q.status, q.bytes, q.upstream = 502, 157, -1
	}
}

func (t *traffic) route(service int) *route {
	for {
		if r := &routes[t.rng.IntN(len(routes))]; r.service == service {
			return r
		}
	}
}

func pick[T any](rng *rand.Rand, from []T, weight func(*T) int) int {
	dice := rng.IntN(100)
	for i := range from {
		if dice -= weight(&from[i]); dice < 0 {
			return i
		}
	}
	return len(from) - 1
}

func hex(dst []byte, rng *rand.Rand) {
	const digits = "0123456789abcdef"
	for i := 0; i < len(dst); i += 16 {
		x := rng.Uint64()
		for k := range 16 {
			dst[i+k] = digits[x>>(4*k)&15]
		}
	}
}

// appendPath appends the request's path, and its query when there is one.
func (q *request) appendPath(dst []byte, withQuery bool) []byte {
	dst = q.fill(dst, q.route.path)
	if withQuery && q.route.query != "" {
		dst = q.fill(append(dst, '?'), q.route.query)
	}
	return dst
}

func (q *request) fill(dst []byte, pattern string) []byte {
	for i := range len(pattern) {
		if pattern[i] == '#' {
			dst = strconv.AppendInt(dst, int64(q.number), 10)
		} else {
			dst = append(dst, pattern[i])
		}
	}
	return dst
}

func (q *request) appendAddr(dst []byte) []byte {
	for i, b := range q.addr {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = strconv.AppendUint(dst, uint64(b), 10)
	}
	return dst
}

// appendMillis appends seconds with three digits, as nginx does.
func appendMillis(dst []byte, seconds float64) []byte {
	return strconv.AppendFloat(dst, seconds, 'f', 3, 64)
}
