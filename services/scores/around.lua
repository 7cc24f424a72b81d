-- A player's place on one board and period, and the entries around it.
--
-- KEYS  the board (sorted set), its members (hash)
-- ARGV  the player (16 bytes), how many entries to each side
-- Answers nothing for a player who is not on the board, else: how many players are on it, the
-- player's rank (0-based), the player's version (8 bytes), the rank of the first entry, the total
-- of who is one place ahead (empty: nobody), then each entry as top.lua does.

local kept = redis.call('HGET', KEYS[2], ARGV[1])
if not kept or #kept == 8 then
  return false
end
local rank = redis.call('ZREVRANK', KEYS[1], string.sub(kept, 9, 16) .. ARGV[1])
local first = math.max(0, rank - ARGV[2])
local ahead = ''
if rank > 0 then
  ahead = redis.call('ZREVRANGE', KEYS[1], rank - 1, rank - 1, 'WITHSCORES')[2]
end
local answer = {redis.call('ZCARD', KEYS[1]), rank, string.sub(kept, 1, 8), first, ahead}
local entries = redis.call('ZREVRANGE', KEYS[1], first, rank + ARGV[2], 'WITHSCORES')
for i = 1, #entries, 2 do
  local user = string.sub(entries[i], 9)
  answer[#answer + 1] = user
  answer[#answer + 1] = entries[i + 1]
  answer[#answer + 1] = string.sub(redis.call('HGET', KEYS[2], user), 17)
end
return answer
