-- The rank of a player who reached a score now, later than all others.
--
-- ARGV  (after order.lua's) the score
-- Returns version, players, rank as doubles.

if not complete() then
  return false
end
local ahead
if ties == 'first_to_reach' then
  ahead = total() - beyond(board, ARGV[3], false)
else
  ahead = beyond(ties == 'dense' and scores or board, ARGV[3], true)
end
return numbers(version(), total(), ahead + 1)
