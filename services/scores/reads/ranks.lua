-- The places of several players on one board and period.
--
-- ARGV  (after order.lua's) the players (16 bytes each)
-- Returns the version as a double, then for each player who is on the board position and rank as
-- doubles, and the entry.

if not complete() then
  return false
end
local answer = {numbers(version())}
for i = 3, #ARGV do
  local kept = redis.call('HGET', members, ARGV[i])
  local member = kept and string.sub(kept, 9, 16) .. ARGV[i]
  local place = kept and #kept > 8 and position(member)
  if place then
    local score = redis.call('ZSCORE', board, member)
    answer[#answer + 1] = numbers(place, rank(place, score)) .. entries({member, score})
  end
end
return table.concat(answer)
