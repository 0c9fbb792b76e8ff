package alert

// nearest returns the name that was probably meant by word: the one that the fewest
// insertions, deletions, replacements and swaps of neighbours away, if they are few.
func nearest(word string, names []string) string {
	best, bestAt := "", 3
	for _, name := range names {
		if d := distance(word, name); d < bestAt && d < len(name) && d < len(word) {
			best, bestAt = name, d
		}
	}
	return best
}

// distance is the optimal string alignment distance in bytes.
func distance(a, b string) int {
	if len(a) > 32 || len(b) > 32 {
		return 32
	}
	var rows [3][33]int
	for j := 0; j <= len(b); j++ {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		prev2, prev, cur := &rows[(i+1)%3], &rows[(i+2)%3], &rows[i%3]
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			swap := 1
			if a[i-1] == b[j-1] {
				swap = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+swap)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
	}
	return rows[len(a)%3][len(b)]
}
