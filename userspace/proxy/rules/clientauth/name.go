package clientauth

import (
	"encoding/asn1"
	"encoding/hex"
)

// attribute is one part of a distinguished name (RFC 5280 section 4.1.2.4).
type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

type attributeSET []attribute // encoding/asn1 knows a SET by the type's name

// shortNames are OpenSSL's, by object identifier.
var shortNames = map[string]string{
	"2.5.4.3":                    "CN",
	"2.5.4.4":                    "SN",
	"2.5.4.5":                    "serialNumber",
	"2.5.4.6":                    "C",
	"2.5.4.7":                    "L",
	"2.5.4.8":                    "ST",
	"2.5.4.9":                    "street",
	"2.5.4.10":                   "O",
	"2.5.4.11":                   "OU",
	"2.5.4.12":                   "title",
	"2.5.4.13":                   "description",
	"2.5.4.15":                   "businessCategory",
	"2.5.4.17":                   "postalCode",
	"2.5.4.41":                   "name",
	"2.5.4.42":                   "GN",
	"2.5.4.43":                   "initials",
	"2.5.4.44":                   "generationQualifier",
	"2.5.4.46":                   "dnQualifier",
	"2.5.4.65":                   "pseudonym",
	"2.5.4.97":                   "organizationIdentifier",
	"0.9.2342.19200300.100.1.1":  "UID",
	"0.9.2342.19200300.100.1.25": "DC",
	"1.2.840.113549.1.9.1":       "emailAddress",
}

// DistinguishedName writes a name as RFC 2253 and nginx do: the last part first, special
// characters after a backslash, and whatever is not printable ASCII in hexadecimal, so that
// a name can be the value of a field whatever its authority has signed. A name that cannot
// be read is empty.
func DistinguishedName(der []byte) []byte {
	var parts []attributeSET
	if rest, err := asn1.Unmarshal(der, &parts); err != nil || len(rest) > 0 {
		return []byte{}
	}
	out := []byte{}
	for i := len(parts) - 1; i >= 0; i-- {
		for j, a := range parts[i] {
			switch {
			case j > 0:
				out = append(out, '+')
			case len(out) > 0:
				out = append(out, ',')
			}
			out = appendAttribute(out, a)
		}
	}
	return out
}

func appendAttribute(out []byte, a attribute) []byte {
	oid := a.Type.String()
	var value string
	name, known := shortNames[oid]
	if _, err := asn1.Unmarshal(a.Value.FullBytes, &value); err != nil || !known {
		out = append(out, oid...)
		out = append(out, "=#"...)
		return append(out, hex.EncodeToString(a.Value.FullBytes)...)
	}
	out = append(out, name...)
	out = append(out, '=')
	for i := range len(value) {
		switch c := value[i]; {
		case c == ',' || c == '+' || c == '"' || c == '\\' || c == '<' || c == '>' || c == ';',
			c == '#' && i == 0, c == ' ' && (i == 0 || i == len(value)-1):
			out = append(out, '\\', c)
		case c < ' ' || c > '~':
			out = append(out, '\\', upperHex[c>>4], upperHex[c&15])
		default:
			out = append(out, c)
		}
	}
	return out
}

const upperHex = "0123456789ABCDEF"

// escape writes text as a component of a URL, as nginx's $ssl_client_escaped_cert has it.
func escape(text []byte) []byte {
	out := make([]byte, 0, len(text)*5/4)
	for _, c := range text {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			out = append(out, c)
		default:
			out = append(out, '%', upperHex[c>>4], upperHex[c&15])
		}
	}
	return out
}
