-- A player's place on one board and period, and the entries around it.
--
-- ARGV  (after order.lua's) the player (16 bytes), how many entries to each side
-- Returns an empty text for a player who is not on the board, else: version, players, the player's
-- position, players strictly behind, whether there is a next rank and its score, the first entry's
-- position and rank as doubles, the player's version (8 bytes), then the entries.

if not complete() then
  return false
end
local kept = redis.call('HGET', members, ARGV[3])
local member = kept and string.sub(kept, 9, 16) .. ARGV[3]
local place = kept and #kept > 8 and position(member)
if not place then
  return ''
end
local score = redis.call('ZSCORE', board, member)
local behind, next_place
if ties == 'first_to_reach' then
  behind, next_place = total() - place - 1, place - 1
else
  behind, next_place = beyond(board, score, false), beyond(board, score, true) - 1
end
local next_score = next_place >= 0 and range(next_place, next_place)[2]
local first = math.max(0, place - ARGV[4])
local found = range(first, place + ARGV[4])
return numbers(version(), total(), place, behind, next_score and 1 or 0, tonumber(next_score or 0), first,
  rank(first, found[2])) .. string.sub(kept, 1, 8) .. entries(found)
