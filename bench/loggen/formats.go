package main

import (
	"fmt"
	"strconv"
	"time"
)

// appendNginx appends q's access line in the gateway example's log_format.
func appendNginx(dst []byte, q *request) []byte {
	dst = q.appendAddr(dst)
	dst = append(dst, " - - ["...)
	dst = q.at.AppendFormat(dst, "02/Jan/2006:15:04:05 -0700")
	dst = append(dst, `] "`...)
	dst = append(dst, q.route.method...)
	dst = append(dst, ' ')
	dst = q.appendPath(dst, true)
	dst = append(dst, ` HTTP/1.1" `...)
	dst = strconv.AppendInt(dst, int64(q.status), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(q.bytes), 10)
	dst = append(dst, ` "`...)
	dst = append(dst, q.client.referer...)
	dst = append(dst, `" "`...)
	dst = append(dst, q.client.agent...)
	dst = append(dst, `" `...)
	dst = appendMillis(dst, q.seconds)
	dst = append(dst, ' ')
	switch {
	case q.upstream < 0:
		dst = append(dst, '-')
	case q.retried:
		dst = append(dst, "0.001, "...)
		dst = appendMillis(dst, q.upstream)
	default:
		dst = appendMillis(dst, q.upstream)
	}
	dst = append(dst, ' ')
	dst = append(dst, q.id[:]...)
	return append(dst, '\n')
}

// appendService appends what the request's service logs of it.
func appendService(dst []byte, q *request) []byte {
	if q.trouble == unreached {
		return dst
	}
	switch q.service {
	case 0:
		return appendJava(dst, q)
	case 1:
		return appendGo(dst, q)
	default:
		return appendPython(dst, q)
	}
}

// appendJava appends the lines of a service that logs through logback with the
// request's id from the MDC.
func appendJava(dst []byte, q *request) []byte {
	head := func(level, logger string) {
		dst = q.at.AppendFormat(dst, "2006-01-02 15:04:05.000")
		dst = append(dst, " ["...)
		dst = fmt.Appendf(dst, "http-nio-8080-exec-%d", 1+q.number%32)
		dst = append(dst, "] "...)
		dst = append(dst, level...)
		dst = append(dst, ' ')
		dst = append(dst, logger...)
		dst = append(dst, " [request_id="...)
		dst = append(dst, q.id[:]...)
		dst = append(dst, "] - "...)
	}
	head("DEBUG", "c.e.shop.orders.OrderRepository")
	dst = fmt.Appendf(dst, "select order id=%d took %d ms, 1 row\n", q.number, int(q.upstream*700))
	switch q.trouble {
	case exception:
		head("ERROR", "c.e.shop.orders.OrderController")
		dst = fmt.Appendf(dst, "could not place order %d for user %d\n", q.number, q.user)
		dst = append(dst, javaTrace...)
	case slow:
		head("WARN ", "c.e.shop.orders.StockClient")
		dst = fmt.Appendf(dst, "stock service answered after %d ms (limit 1000 ms), order %d\n", int(q.upstream*1000), q.number)
	}
	head("INFO ", "c.e.shop.orders.AccessLogger")
	dst = append(dst, q.route.method...)
	dst = append(dst, ' ')
	dst = q.appendPath(dst, false)
	return fmt.Appendf(dst, " answered %d in %d ms, user=%d\n", q.status, int(q.upstream*1000), q.user)
}

const javaTrace = `org.springframework.dao.DataAccessResourceFailureException: Unable to acquire JDBC Connection; nested exception is org.hibernate.exception.JDBCConnectionException: Unable to acquire JDBC Connection
	at org.springframework.orm.jpa.vendor.HibernateJpaDialect.convertHibernateAccessException(HibernateJpaDialect.java:277)
	at org.springframework.orm.jpa.vendor.HibernateJpaDialect.translateExceptionIfPossible(HibernateJpaDialect.java:255)
	at com.example.shop.orders.OrderRepository.save(OrderRepository.java:88)
	at com.example.shop.orders.OrderService.place(OrderService.java:141)
	at com.example.shop.orders.OrderController.create(OrderController.java:57)
	at java.base/jdk.internal.reflect.DirectMethodHandleAccessor.invoke(DirectMethodHandleAccessor.java:103)
	at java.base/java.lang.Thread.run(Thread.java:1583)
Caused by: org.hibernate.exception.JDBCConnectionException: Unable to acquire JDBC Connection
	at org.hibernate.exception.internal.SQLExceptionTypeDelegate.convert(SQLExceptionTypeDelegate.java:51)
	at org.hibernate.engine.jdbc.spi.SqlExceptionHelper.convert(SqlExceptionHelper.java:113)
	... 12 more
Caused by: java.sql.SQLTransientConnectionException: HikariPool-1 - Connection is not available, request timed out after 30000ms.
	at com.zaxxer.hikari.pool.HikariPool.createTimeoutException(HikariPool.java:696)
	at com.zaxxer.hikari.pool.HikariPool.getConnection(HikariPool.java:181)
	... 27 more
`

// appendGo appends the lines of a service that logs JSON through zap.
func appendGo(dst []byte, q *request) []byte {
	head := func(level, caller, msg string) {
		dst = append(dst, `{"level":"`...)
		dst = append(dst, level...)
		dst = append(dst, `","ts":"`...)
		dst = q.at.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
		dst = append(dst, `","logger":"payments.http.server","caller":"`...)
		dst = append(dst, caller...)
		dst = append(dst, `","msg":"`...)
		dst = append(dst, msg...)
		dst = append(dst, `","service":"payments","version":"v2.14.3","pod":"`...)
		dst = append(dst, services[1].pod...)
		dst = append(dst, `","request_id":"`...)
		dst = append(dst, q.id[:]...)
		dst = append(dst, `","trace_id":"`...)
		dst = append(dst, q.trace[:]...)
		dst = append(dst, '"')
	}
	switch q.trouble {
	case exception:
		head("error", "payment/capture.go:118", "capture payment")
		dst = fmt.Appendf(dst, `,"payment":%d,"error":"acquirer: dial tcp 10.4.7.21:8443: connect: connection refused","attempt":3}`+"\n", q.number)
	case slow:
		head("warn", "payment/acquirer.go:74", "acquirer is slow")
		dst = fmt.Appendf(dst, `,"payment":%d,"took_ms":%d,"limit_ms":1000}`+"\n", q.number, int(q.upstream*1000))
	}
	head("info", "http/server.go:142", "request completed")
	dst = append(dst, `,"method":"`...)
	dst = append(dst, q.route.method...)
	dst = append(dst, `","path":"`...)
	dst = q.appendPath(dst, false)
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(q.status), 10)
	dst = append(dst, `,"duration_ms":`...)
	dst = appendMillis(dst, q.upstream*1000)
	dst = append(dst, `,"remote_addr":"`...)
	dst = q.appendAddr(dst)
	dst = append(dst, `","user_id":"u-`...)
	dst = strconv.AppendInt(dst, int64(q.user), 10)
	dst = append(dst, `","bytes":`...)
	dst = strconv.AppendInt(dst, int64(q.bytes), 10)
	return append(dst, "}\n"...)
}

// appendPython appends the lines of a service that uses Python's logging.
func appendPython(dst []byte, q *request) []byte {
	head := func(logger, level string) {
		dst = q.at.AppendFormat(dst, "2006-01-02 15:04:05,000")
		dst = append(dst, " - "...)
		dst = append(dst, logger...)
		dst = append(dst, " - "...)
		dst = append(dst, level...)
		dst = append(dst, " - request_id="...)
		dst = append(dst, q.id[:]...)
		dst = append(dst, ' ')
	}
	if q.number%4 == 0 {
		head("catalog.cache", "DEBUG")
		dst = fmt.Appendf(dst, "miss for product:%d, ttl 300 s\n", q.number)
	}
	switch q.trouble {
	case exception:
		head("catalog.views", "ERROR")
		dst = fmt.Appendf(dst, "product %d cannot be shown\n", q.number)
		dst = append(dst, pythonTrace...)
	case slow:
		head("catalog.search", "WARNING")
		dst = fmt.Appendf(dst, "search took %s s, shard 3 of 5 did not answer in time\n", strconv.FormatFloat(q.upstream, 'f', 2, 64))
	}
	head("catalog.access", "INFO")
	dst = append(dst, q.route.method...)
	dst = append(dst, ' ')
	dst = q.appendPath(dst, true)
	return fmt.Appendf(dst, " -> %d (%d ms)\n", q.status, int(q.upstream*1000))
}

const pythonTrace = `Traceback (most recent call last):
  File "/app/catalog/cache.py", line 61, in get
    return self._redis.get(key)
  File "/usr/local/lib/python3.12/site-packages/redis/client.py", line 559, in execute_command
    return conn.retry.call_with_retry(
redis.exceptions.ConnectionError: Error 111 connecting to redis:6379. Connection refused.

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "/app/catalog/views.py", line 112, in product
    item = self.cache.get(f"product:{number}") or self.load(number)
  File "/app/catalog/views.py", line 87, in load
    raise CatalogUnavailable(f"product {number} cannot be loaded")
catalog.errors.CatalogUnavailable: product cannot be loaded
`

// appendStack appends what an application text log for benchmarks holds: a Java
// service's and, for every tenth request, a Python service's lines.
func appendStack(dst []byte, q *request) []byte {
	if q.trouble == unreached {
		q.trouble, q.upstream = exception, 0.03
	}
	if q.number%10 == 0 {
		return appendPython(dst, q)
	}
	return appendJava(dst, q)
}

// appendPayment appends one JSON line of a request, whatever service it went to.
func appendPayment(dst []byte, q *request) []byte {
	q.trouble, q.upstream = fine, max(q.upstream, 0.001)
	return appendGo(dst, q)
}

// tick is the time between two requests in the files for benchmarks.
const tick = 700 * time.Microsecond
