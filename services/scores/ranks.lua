-- The places of several players on one board and period.
--
-- KEYS  the board (sorted set), its members (hash)
-- ARGV  the players (16 bytes each)
-- Answers for each player who is on the board: the player, the rank (0-based), the total, when it
-- was reached (8 bytes).

local answer = {}
for i = 1, #ARGV do
  local kept = redis.call('HGET', KEYS[2], ARGV[i])
  if kept and #kept > 8 then
    local member = string.sub(kept, 9, 16) .. ARGV[i]
    answer[#answer + 1] = ARGV[i]
    answer[#answer + 1] = redis.call('ZREVRANK', KEYS[1], member)
    answer[#answer + 1] = redis.call('ZSCORE', KEYS[1], member)
    answer[#answer + 1] = string.sub(kept, 17)
  end
end
return answer
