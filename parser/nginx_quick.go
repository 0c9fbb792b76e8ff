package parser

import (
	"bytes"
	"encoding/binary"
	"math/bits"

	"github.com/tailwater/tailwater/record"
)

// nginxQuick marks the steps that run deals with on the spot.
type nginxQuick uint8

const (
	notQuick nginxQuick = iota
	quickText
	quickToken
	quickLast
	quickNumber
	quickRequest
	quickTime
)

func (s *nginxStep) quickness() nginxQuick {
	switch s.kind {
	case nginxText, nginxToken, nginxTokens:
		switch {
		case s.keys[0] == "":
		case s.find == nginxFar:
			return quickText
		case s.find == nginxFirst:
			return quickToken
		case s.find == nginxToEnd && s.kind == nginxText:
			return quickLast
		case s.find == nginxToEnd && s.kind == nginxToken:
			return quickLast
		}
	case nginxInt, nginxStatus, nginxDecimal, nginxSeconds, nginxUpstream, nginxSum, nginxLast:
		if s.find != nginxUnquoted && s.keys[0] != "" {
			return quickNumber
		}
	case nginxRequest:
		if s.find == nginxFar {
			return quickRequest
		}
	case nginxTimeLocal:
		if !s.untimed {
			return quickTime
		}
	}
	return notQuick
}

// standsForItself tells whether every byte of text, quotes aside, stands for itself in
// a JSON string, and in nginx's own escaping too.
func standsForItself(text []byte) bool {
	if len(text) < 32 {
		for _, c := range text {
			if c < 0x20 || c >= 0x80 || c == '\\' {
				return false
			}
		}
		return true
	}
	// The high bits of bad show it: a borrow can only set bits above a true one.
	last, bad := len(text)-32, uint64(0)
	for i := 0; ; i = min(i+32, last) { // the last round has some again
		b := text[i : i+32]
		x := binary.LittleEndian.Uint64(b)
		bad |= x | (x - wordOnes*0x20) | ((x ^ wordOnes*'\\') - wordOnes)
		x = binary.LittleEndian.Uint64(b[8:])
		bad |= x | (x - wordOnes*0x20) | ((x ^ wordOnes*'\\') - wordOnes)
		x = binary.LittleEndian.Uint64(b[16:])
		bad |= x | (x - wordOnes*0x20) | ((x ^ wordOnes*'\\') - wordOnes)
		x = binary.LittleEndian.Uint64(b[24:])
		bad |= x | (x - wordOnes*0x20) | ((x ^ wordOnes*'\\') - wordOnes)
		if i == last {
			return bad&wordHighs == 0
		}
	}
}

// blankAt returns the place of the first blank at or after pos, -1 when there is none.
// It is for values that are mostly short.
func blankAt(text []byte, pos int) int {
	if pos+16 <= len(text) {
		b := text[pos : pos+16]
		x := binary.LittleEndian.Uint64(b) ^ wordOnes*' '
		if m := (x - wordOnes) &^ x & wordHighs; m != 0 {
			return pos + bits.TrailingZeros64(m)/8
		}
		x = binary.LittleEndian.Uint64(b[8:]) ^ wordOnes*' '
		if m := (x - wordOnes) &^ x & wordHighs; m != 0 {
			return pos + 8 + bits.TrailingZeros64(m)/8
		}
		pos += 16
	}
	i := bytes.IndexByte(text[pos:], ' ')
	if i < 0 {
		return -1
	}
	return pos + i
}

// methodLen returns the length of the method that val begins with, when a blank follows;
// 0 when there is none. It is for the common ones: short, and of capitals alone.
func methodLen(val []byte) int {
	if len(val) < 8 {
		return 0
	}
	x := binary.LittleEndian.Uint64(val)
	blank := x ^ wordOnes*' '
	blank = (blank - wordOnes) &^ blank & wordHighs
	// The high bit of each byte that is a capital.
	capital := ((x | wordHighs) - wordOnes*'A') & ((wordOnes*'Z' | wordHighs) - x&^wordHighs) &^ x & wordHighs
	n := bits.TrailingZeros64(blank) / 8
	if first := uint64(1)<<(8*n) - 1; n == 8 || capital&first != wordHighs&first {
		return 0
	}
	return n
}

// putQuick puts a single number and returns where it ends; -1 when what stands at pos is
// anything else, or a list, or a number that is longer than most.
func (s *nginxStep) putQuick(text []byte, pos int, r *record.Record) (end int) {
	if pos+8 > len(text) {
		return -1
	}
	digits := binary.LittleEndian.Uint64(text[pos:]) ^ wordOnes*'0'
	// The high bit of each byte that is not 0 to 9 now.
	other := ((digits&^wordHighs + wordOnes*(0x80-10)) | digits) & wordHighs
	n := bits.TrailingZeros64(other) / 8
	if n == 0 || n == 8 {
		return -1
	}
	d, whole := decimal{}, n
	if end = pos + n; s.kind >= nginxDecimal && s.kind != nginxStatus && text[end] == '.' {
		other &= other - 1
		n = bits.TrailingZeros64(other)/8 - 1
		if d.scale = n - whole; d.scale == 0 || other == 0 {
			return -1
		}
		end += 1 + d.scale
		low := uint64(1)<<(8*whole) - 1
		digits = digits&low | digits>>8&^low
	}
	if !s.litAt(text, end) || s.find == nginxListed && inList(text, end) {
		return -1
	}
	if s.kind >= nginxStatus {
		d.mant = eightDigits(digits << (64 - 8*n))
		switch s.kind {
		case nginxStatus:
			if n != 3 {
				return -1
			}
			r.Status = int32(d.mant)
		case nginxSeconds:
			r.RequestTime = d.float()
		case nginxUpstream:
			r.UpstreamTime = d.float()
		}
	}
	val := text[pos:end]
	if whole > 1 && val[0] == '0' {
		val = trimZeros(val)
	}
	r.PutNamed(s.names[0], val, record.JSON)
	return end
}

// eightDigits returns the number of eight digits, each the value of its byte.
func eightDigits(x uint64) int64 {
	x = x*10 + x>>8 // pairs, in every second byte
	const pair = 0x000000FF000000FF
	return int64((x&pair*(100+1000000<<32) + x>>16&pair*(1+10000<<32)) >> 32)
}
