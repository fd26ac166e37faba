package compression

import "bytes"

// Accepted is what a client says of codings by Accept-Encoding (RFC 9110 section 12.5.3):
// their weights in thousandths. The zero value accepts none, as a client that does not send
// the field might.
type Accepted struct {
	weight  [Encodings]int16 // + 1; 0: not named
	anyOf   int16            // of "*", + 1
	members int
}

// maxMembers bounds how much of the field is read.
const maxMembers = 32

// Add reads the value of one field line; there can be several. A member that is not valid
// counts for nothing.
func (a *Accepted) Add(value []byte) {
	for more := true; more && a.members < maxMembers; a.members++ {
		var member []byte
		member, value, more = bytes.Cut(value, []byte{','})
		coding, parameters, weighted := bytes.Cut(member, []byte{';'})
		weight, ok := int16(1000), true
		if weighted {
			weight, ok = parseWeight(bytes.Trim(parameters, " \t"))
		}
		if !ok {
			continue
		}
		coding = bytes.Trim(coding, " \t")
		if string(coding) == "*" {
			a.anyOf = weight + 1
			continue
		}
		for e, token := range tokens {
			if bytes.EqualFold(coding, []byte(token)) || Encoding(e) == Gzip && bytes.EqualFold(coding, []byte("x-gzip")) {
				a.weight[e] = weight + 1
			}
		}
	}
}

// parseWeight reads "q=0.5" (RFC 9110 section 12.4.2), in thousandths.
func parseWeight(s []byte) (weight int16, ok bool) {
	if len(s) < 3 || len(s) > len("q=0.000") || s[0]|0x20 != 'q' || s[1] != '=' || s[2] != '0' && s[2] != '1' {
		return 0, false
	}
	weight = int16(s[2]-'0') * 1000
	if len(s) > 3 && s[3] != '.' {
		return 0, false
	}
	unit := int16(100)
	for _, c := range s[min(4, len(s)):] {
		if c < '0' || c > '9' {
			return 0, false
		}
		weight += int16(c-'0') * unit
		unit /= 10
	}
	return weight, weight <= 1000
}

// of returns the weight of a coding, 0 if the client does not take it.
func (a *Accepted) of(e Encoding) int16 {
	switch {
	case a.weight[e] > 0:
		return a.weight[e] - 1
	case a.anyOf > 0:
		return a.anyOf - 1
	case e == Identity:
		return 1 // always acceptable unless it is refused, but nobody's first choice
	}
	return 0
}

// Choose returns the coding of the list that the client likes best, the first of several;
// Identity if it takes none of them, or likes it better.
func (a *Accepted) Choose(list []Encoding) Encoding {
	best, weight := Identity, int16(0)
	for _, e := range list {
		if w := a.of(e); w > weight {
			best, weight = e, w
		}
	}
	if a.weight[Identity] > 0 && a.of(Identity) > weight {
		return Identity
	}
	return best
}
