-- What is known of players on one board and period.
--
-- KEYS  see boards/keys.py
-- ARGV  the players (16 bytes each)
-- Returns for each nothing, or: version (8 bytes), and for who is on the board place and time (8
-- each), and the score as a double, unless its entry is lost.

local board, members = KEYS[1], KEYS[2]
local answer = {}
for i, user in ipairs(ARGV) do
  local kept = redis.call('HGET', members, user)
  local score = kept and #kept > 8 and redis.call('ZSCORE', board, string.sub(kept, 9, 16) .. user)
  answer[i] = kept and kept .. (score and struct.pack('>d', tonumber(score)) or '')
end
return answer
