// Package report counts lines per calendar day and group while they are read, and says
// once a day what the day before was like.
//
// A chain's Tap picks the lines out that a report counts; Flush adds them to the Book,
// with the position up to which the file has been read, and Changes gives both to a
// checkpoint. Due, asked a few times a second, returns the reports that are due and the
// groups that have gone over a report's limit; Done says that they are kept for good.
//
// Of a fleet, Words is what a host has to say of its counts, and Sums, on an evaluator,
// adds up what all of them say.
//
// Invariants:
//   - A day is a calendar day of the report's zone, of 23 or 25 hours where the clocks
//     are changed. A line counts in the day of its own time.
//   - What the journal says was counted agrees with its positions: after a crash no line
//     counts twice, and none is missed.
//   - A report is due once for each day, however late; a group goes over once a day.
//   - Memory is bounded: by max_groups, by keepDays, and by maxPatterns for the most
//     frequent messages. What is not counted is counted as such.
package report
