-- What a worker asks of advance besides results and jobs: again, points, max, window and name of ARGV[5] (nil: none of them).
-- A call without any spares a function and its variables.

local options
